"""Reads the exported log for the checker: one JSON object a line.

This module uses no code of the product.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

FOREVER = 1 << 62


class Nic(NamedTuple):
    """An interface of an endpoint."""

    container: str
    addresses: tuple[tuple[str, str], ...]
    """(address, pool)."""


class Claimed(NamedTuple):
    """An event ``addresses-claimed`` or ``endpoint-changed``."""

    position: int
    pod: str
    uid: str
    nics: tuple[Nic, ...]
    """The NICs of the endpoint after the event."""

    new: tuple[int, ...]
    """Indexes of NICs with new addresses; empty for ``endpoint-changed``."""


class Released(NamedTuple):
    """An event ``addresses-released``."""

    position: int
    pod: str
    releases: tuple[tuple[str, int], ...]
    """(address, revision of the claim that ends)."""

    nics: tuple[Nic, ...]
    """The NICs that the endpoint keeps."""


class PoolChanged(NamedTuple):
    """From ``position`` on, a pool allocates from ``ranges`` only; without ranges, not at all."""

    position: int
    name: str
    ranges: tuple[tuple[int, int], ...]


class ExcludedAddresses(NamedTuple):
    """From ``position`` on, a reservation or quarantine excludes ``ranges``; if deleted, none."""

    position: int
    name: str
    ranges: tuple[tuple[int, int], ...]


Event = Claimed | Released | PoolChanged | ExcludedAddresses


def read_export(lines: Iterable[str]) -> Iterator[Event]:
    """The events that the checker needs, in the order of the log."""
    previous = (-1, -1)
    for line in lines:
        entry = json.loads(line)
        here = entry["position"], entry["place"]
        assert here > previous, f"the export is not in order at {here}"
        previous = here
        event = _event(entry["type"], entry["position"], entry["body"])
        if event is not None:
            yield event


def _event(kind: str, position: int, body: dict[str, Any]) -> Event | None:
    if kind in {"addresses-claimed", "endpoint-changed"}:
        endpoint = body["endpoint"]
        pod = f"{endpoint['namespace']}/{endpoint['name']}"
        new = tuple(body.get("new_nics", ()))
        return Claimed(position, pod, endpoint["uid"], _nics(endpoint["nics"]), new)
    if kind == "addresses-released":
        releases = tuple(
            (release["address"], release["claim_revision"]) for release in body["releases"]
        )
        pod = f"{body['namespace']}/{body['name']}"
        return Released(position, pod, releases, _nics(body["nics"]))
    if kind == "pool-defined":
        pool = body["pool"]
        usable = not pool["disabled"] and not pool["retiring"]
        return PoolChanged(position, pool["name"], _ranges(pool["ips"]) if usable else ())
    if kind in {"pool-retired", "pool-deleted"}:
        return PoolChanged(position, body["name"], ())
    return _excluded(kind, position, body)


def _excluded(kind: str, position: int, body: dict[str, Any]) -> ExcludedAddresses | None:
    match kind:
        case "reservation-defined":
            reservation = body["reservation"]
            name = f"reservation {reservation['name']}"
            return ExcludedAddresses(position, name, _ranges(reservation["ips"]))
        case "reservation-deleted":
            return ExcludedAddresses(position, f"reservation {body['name']}", ())
        case "address-quarantined":
            address = body["quarantine"]["address"]
            return ExcludedAddresses(position, f"quarantine {address}", _ranges([address]))
        case "quarantine-lifted":
            return ExcludedAddresses(position, f"quarantine {body['address']}", ())
        case _:
            return None


def _nics(nics: list[dict[str, Any]]) -> tuple[Nic, ...]:
    return tuple(
        Nic(
            nic["container"],
            tuple(
                (nic[family].partition("/")[0], nic[f"{family}_pool"])
                for family in ("ipv4", "ipv6")
                if nic[family]
            ),
        )
        for nic in nics
    )


def _ranges(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    ends = [text.partition("-") for text in texts]
    return tuple(
        (int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last or first)))
        for first, _, last in ends
    )
