"""Reads the exported log for the checker: one JSON object a line, without code of the product.

Keeps only what the checker needs: which sandbox holds which address between which positions.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

FOREVER = 1 << 62


class Nic(NamedTuple):
    """An interface of an endpoint: its sandbox and addresses."""

    container: str
    addresses: tuple[tuple[str, str], ...]
    """(address, pool)."""


class Claimed(NamedTuple):
    """``addresses-claimed`` or ``endpoint-changed``: the endpoint after it."""

    position: int
    pod: str
    uid: str
    nics: tuple[Nic, ...]
    new: tuple[int, ...]
    """Indexes of NICs with new addresses; empty for a change."""


class Released(NamedTuple):
    """``addresses-released``."""

    position: int
    pod: str
    releases: tuple[tuple[str, int], ...]
    """(address, revision of the claim that ends)."""

    nics: tuple[Nic, ...]
    """What the endpoint keeps."""


class PoolChanged(NamedTuple):
    """A pool from this position on; ``ranges`` is empty if it allocates no addresses."""

    position: int
    name: str
    ranges: tuple[tuple[int, int], ...]


class SetAside(NamedTuple):
    """A reservation or quarantine from this position on; ``ranges`` is empty if it was deleted."""

    position: int
    name: str
    ranges: tuple[tuple[int, int], ...]


Event = Claimed | Released | PoolChanged | SetAside


def read_export(lines: Iterable[str]) -> Iterator[Event]:
    """The events of an export that the checker knows, in the order of the log."""
    before = (-1, -1)
    for line in lines:
        record = json.loads(line)
        here = record["position"], record["place"]
        assert here > before, f"the export is not in order at {here}"
        before = here
        event = _event(record["type"], record["position"], record["body"])
        if event is not None:
            yield event


def _event(kind: str, position: int, body: dict[str, Any]) -> Event | None:
    if kind in {"addresses-claimed", "endpoint-changed"}:
        endpoint = body["endpoint"]
        pod = f"{endpoint['namespace']}/{endpoint['name']}"
        new = tuple(body.get("new_nics", ()))
        return Claimed(position, pod, endpoint["uid"], _nics(endpoint["nics"]), new)
    if kind == "addresses-released":
        releases = tuple((each["address"], each["claim_revision"]) for each in body["releases"])
        pod = f"{body['namespace']}/{body['name']}"
        return Released(position, pod, releases, _nics(body["nics"]))
    if kind == "pool-defined":
        pool = body["pool"]
        usable = not pool["disabled"] and not pool["retiring"]
        return PoolChanged(position, pool["name"], _ranges(pool["ips"]) if usable else ())
    if kind in {"pool-retired", "pool-deleted"}:
        return PoolChanged(position, body["name"], ())
    return _set_aside(kind, position, body)


def _set_aside(kind: str, position: int, body: dict[str, Any]) -> SetAside | None:
    match kind:
        case "reservation-defined":
            reservation = body["reservation"]
            name = f"reservation {reservation['name']}"
            return SetAside(position, name, _ranges(reservation["ips"]))
        case "reservation-deleted":
            return SetAside(position, f"reservation {body['name']}", ())
        case "address-quarantined":
            address = body["quarantine"]["address"]
            return SetAside(position, f"quarantine {address}", _ranges([address]))
        case "quarantine-lifted":
            return SetAside(position, f"quarantine {body['address']}", ())
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
