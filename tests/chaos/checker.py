"""Checks the exported log of a run against the rules, the answers to callers and the keys in etcd.

This module uses no code of the product. A violation has the name of a rule:

    held-twice          a held address is claimed again
    foreign-release     a Pod releases a claim that the Pod does not have
    outside-pool        a claimed address is not in the pool at the position of the claim
    excluded            a claimed address is reserved or in quarantine
    wrong-endpoint      the addresses of an endpoint differ from the claims of the Pod
    unlogged-add        an ADD returned no address, or an address without a claim of the sandbox
    ineffective-delete  a sandbox holds an address after a successful DEL
    different-answer    two successful ADDs of one sandbox returned different addresses
    leak                at the end, a deleted Pod holds an address, or a living Pod lacks an address
    wrong-state         at the end, the keys of claims in etcd differ from the claims in the log
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.chaos.call_record import CallRecord
from tests.chaos.history import FOREVER, Claimed, Event, Nic, PoolChanged, Released

Ranges = tuple[tuple[int, int], ...]
"""(first, last) of each range, as numbers."""


class Violation(NamedTuple):
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


class Holding(NamedTuple):
    """The time in which a sandbox holds an address, from log position ``begin`` to ``end``."""

    address: str
    pod: str
    uid: str
    container: str
    begin: int
    end: int = FOREVER


class Claim(NamedTuple):
    """The current claim of an address. ``position`` is that of the claiming event in the log."""

    pod: str
    position: int
    holding: Holding


class AddressHistory:
    """All holdings and violations of a log. ``held`` maps an address to its current claim."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.violations: list[Violation] = []
        self.holdings: list[Holding] = []
        self.held: dict[str, Claim] = {}
        self.events = 0
        self._pools: dict[str, Ranges] = {}
        self._excluded: dict[str, Ranges] = {}
        for event in events:
            self.events += 1
            if isinstance(event, Claimed):
                self._claim(event)
            elif isinstance(event, Released):
                self._release(event)
            elif isinstance(event, PoolChanged):
                self._pools[event.name] = event.ranges
            else:
                self._excluded[event.name] = event.ranges
        self.holdings += [claim.holding for claim in self.held.values()]
        self._by_container: dict[str, list[Holding]] = {}
        for holding in self.holdings:
            self._by_container.setdefault(holding.container, []).append(holding)

    def of_container(self, container: str) -> list[Holding]:
        """All holdings of a sandbox."""
        return self._by_container.get(container, [])

    def _claim(self, event: Claimed) -> None:
        for number, nic in enumerate(event.nics):
            for address, pool in nic.addresses:
                if number in event.new:
                    self._begin(event, nic, address, pool)
                else:
                    self._move(event, nic, address)
        self._compare(event.pod, event.position, event.nics)

    def _begin(self, event: Claimed, nic: Nic, address: str, pool: str) -> None:
        earlier = self.held.get(address)
        where = f"{address} at {event.position} by {event.pod}"
        if earlier is not None:
            text = f"{where}, held by {earlier.pod} since {earlier.position}"
            self._add_violation("held-twice", text)
            self._end(address, event.position)
        value = int(ipaddress.ip_address(address))
        if not _has(self._pools.get(pool, ()), value):
            self._add_violation("outside-pool", f"{where}: pool {pool}")
        for name, ranges in self._excluded.items():
            if _has(ranges, value):
                self._add_violation("excluded", f"{where}: {name}")
        holding = Holding(address, event.pod, event.uid, nic.container, event.position)
        self.held[address] = Claim(event.pod, event.position, holding)

    def _move(self, event: Claimed, nic: Nic, address: str) -> None:
        """Keep the claim of the Pod; begin a new holding if the sandbox or the UID is new."""
        claim = self.held.get(address)
        if claim is None or claim.pod != event.pod:
            self._add_violation(
                "wrong-endpoint", f"{address} at {event.position}: {event.pod} has no claim of it"
            )
            return
        if (claim.holding.container, claim.holding.uid) != (nic.container, event.uid):
            self.holdings.append(claim.holding._replace(end=event.position))
            new_holding = Holding(address, event.pod, event.uid, nic.container, event.position)
            self.held[address] = claim._replace(holding=new_holding)

    def _release(self, event: Released) -> None:
        for address, revision in event.releases:
            claim = self.held.get(address)
            if claim is None or claim.pod != event.pod or claim.position != revision:
                current = f"{claim.pod} since {claim.position}" if claim else "none"
                where = f"{address} at {event.position} by {event.pod}"
                text = f"{where}: releases the claim {revision}, current claim: {current}"
                self._add_violation("foreign-release", text)
            self._end(address, event.position)
        self._compare(event.pod, event.position, event.nics)

    def _end(self, address: str, position: int) -> None:
        claim = self.held.pop(address, None)
        if claim is not None:
            self.holdings.append(claim.holding._replace(end=position))

    def _compare(self, pod: str, position: int, nics: tuple[Nic, ...]) -> None:
        endpoint_addresses = {address for nic in nics for address, _ in nic.addresses}
        claimed_addresses = {address for address, claim in self.held.items() if claim.pod == pod}
        if endpoint_addresses != claimed_addresses:
            text = (
                f"{pod} at {position}: the endpoint has {sorted(endpoint_addresses)},"
                f" claims have {sorted(claimed_addresses)}"
            )
            self._add_violation("wrong-endpoint", text)

    def _add_violation(self, rule: str, text: str) -> None:
        self.violations.append(Violation(rule, text))


def _has(ranges: Ranges, value: int) -> bool:
    return any(first <= value <= last for first, last in ranges)


class Evidence(NamedTuple):
    """The facts with which the log is compared.

    ``living`` maps a container to its addresses, if its ADD succeeded and its Pod was not deleted.
    ``claim_keys`` are the addresses under ``ip/`` in etcd at the end of the run.
    """

    calls: list[CallRecord]
    living: Mapping[str, tuple[str, ...]]
    claim_keys: frozenset[str]


def check(events: Iterable[Event], evidence: Evidence) -> list[Violation]:
    history = AddressHistory(events)
    violations = list(history.violations)
    first_answers: dict[str, tuple[str, ...]] = {}
    for call in evidence.calls:
        if not call.is_success:
            continue
        if call.verb == "ADD":
            violations += _check_add(history, call, first_answers)
        elif call.verb == "DEL":
            violations += _check_delete(history, call)
    return [*violations, *_check_end(history, evidence)]


def _check_add(
    history: AddressHistory, call: CallRecord, first_answers: dict[str, tuple[str, ...]]
) -> Iterable[Violation]:
    container, addresses = call.sandbox.container, call.reply.addresses
    where = f"ADD of {call.sandbox.pod} ({container[:12]}) answered {addresses}"
    first = first_answers.setdefault(container, addresses)
    if set(first) != set(addresses):
        yield Violation("different-answer", f"{where}, an earlier ADD answered {first}")
    for address in addresses:
        if not any(
            holding.address == address
            and holding.uid == call.sandbox.uid
            and holding.begin <= call.revision_after
            and holding.end > call.revision_before
            for holding in history.of_container(container)
        ):
            revisions = f"{call.revision_before} and {call.revision_after}"
            yield Violation("unlogged-add", f"{where}: no claim between revisions {revisions}")
    if not addresses:
        yield Violation("unlogged-add", f"{where}: no address")


def _check_delete(history: AddressHistory, call: CallRecord) -> Iterable[Violation]:
    for holding in history.of_container(call.sandbox.container):
        if holding.end > call.revision_after:
            yield Violation(
                "ineffective-delete",
                f"DEL of {call.sandbox.pod} ({call.sandbox.container[:12]}) succeeded before"
                f" {call.revision_after}, but its sandbox holds {holding.address}"
                f" from {holding.begin} to {holding.end}",
            )


def _check_end(history: AddressHistory, evidence: Evidence) -> Iterable[Violation]:
    expected = {
        address: container
        for container, addresses in evidence.living.items()
        for address in addresses
    }
    for address, claim in history.held.items():
        if expected.get(address) != claim.holding.container:
            holder = f"{claim.pod} ({claim.holding.container[:12]})"
            yield Violation("leak", f"{address} is held by the deleted Pod {holder}")
    for address, container in expected.items():
        if address not in history.held:
            yield Violation("leak", f"{address} is not held for the living {container[:12]}")
    for address in evidence.claim_keys ^ frozenset(history.held):
        side = "in etcd only" if address in evidence.claim_keys else "in the log only"
        yield Violation("wrong-state", f"{address} is claimed {side}")


__all__ = ["AddressHistory", "Evidence", "Holding", "PoolChanged", "Violation", "check"]
