"""The checker of fault runs reports each kind of violation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.call_record import CallRecord
from tests.chaos.callers import Reply, Sandbox
from tests.chaos.checker import Evidence, check
from tests.chaos.history import Event, read_export

WEB = Sandbox("web", "uid-1", "container-1", "/netns/1")
SECOND_SANDBOX_OF_WEB = Sandbox("web", "uid-1", "container-2", "/netns/2")
OTHER = Sandbox("other", "uid-2", "container-3", "/netns/3")
THIRD = Sandbox("third", "uid-3", "container-4", "/netns/4")
ADDRESS, NEXT_ADDRESS = "10.6.0.1", "10.6.0.2"


class Log:
    """Builds an export of the log. The first event defines a pool at position 1."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.pool("10.6.0.1-10.6.0.9")

    @property
    def position(self) -> int:
        return len(self._lines)

    def pool(self, *ranges: str, disabled: bool = False) -> None:
        pool = {"name": "lan", "ips": ranges, "disabled": disabled, "retiring": False}
        self._add("pool-defined", {"pool": pool})

    def reserve(self, *addresses: str) -> None:
        self._add("reservation-defined", {"reservation": {"name": "kept", "ips": addresses}})

    def quarantine(self, address: str) -> None:
        self._add("address-quarantined", {"quarantine": {"address": address}})

    def lift(self, address: str) -> None:
        self._add("quarantine-lifted", {"address": address})

    def claim(self, sandbox: Sandbox, *addresses: str, new: bool = True) -> None:
        endpoint = {
            "namespace": "shop",
            "name": sandbox.pod,
            "uid": sandbox.uid,
            "nics": [nic(sandbox, address) for address in addresses],
        }
        if new:
            indexes = list(range(len(addresses)))
            self._add("addresses-claimed", {"endpoint": endpoint, "new_nics": indexes})
        else:
            self._add("endpoint-changed", {"endpoint": endpoint})

    def release(self, sandbox: Sandbox, address: str, *, claim: int) -> None:
        """Release an address that was claimed at the position ``claim``."""
        releases = [{"address": address, "claim_revision": claim}]
        body = {"namespace": "shop", "name": sandbox.pod, "releases": releases, "nics": []}
        self._add("addresses-released", body)

    def events(self) -> list[Event]:
        return list(read_export(self._lines))

    def _add(self, kind: str, body: dict[str, Any]) -> None:
        event = {"position": len(self._lines) + 1, "place": 0, "type": kind, "body": body}
        self._lines.append(json.dumps(event))


def nic(sandbox: Sandbox, address: str) -> dict[str, str]:
    empty = {"ipv6": "", "ipv6_pool": ""}
    return {
        "container": sandbox.container,
        "ipv4": f"{address}/16",
        "ipv4_pool": "lan",
        **empty,
    }


def successful_call(
    verb: str, sandbox: Sandbox, *addresses: str, after: int, before: int = 0
) -> CallRecord:
    """``before`` and ``after`` are positions of the log."""
    return CallRecord(verb, 0, sandbox, Reply(0, addresses), before, after)


def broken_rules(
    log: Log,
    *calls: CallRecord,
    living: dict[Sandbox, str] | None = None,
    keys: set[str] | None = None,
) -> list[str]:
    """Return broken rules. ``keys``: claimed addresses in etcd; default: those of ``living``."""
    address_by_sandbox = {
        sandbox.container: (address,) for sandbox, address in (living or {}).items()
    }
    living_addresses = {
        address for addresses in address_by_sandbox.values() for address in addresses
    }
    evidence = Evidence(
        list(calls), address_by_sandbox, frozenset(living_addresses if keys is None else keys)
    )
    return [violation.rule for violation in check(log.events(), evidence)]


def test_a_correct_log_has_no_violation() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(SECOND_SANDBOX_OF_WEB, ADDRESS, new=False)
    log.claim(OTHER, NEXT_ADDRESS)
    log.release(SECOND_SANDBOX_OF_WEB, ADDRESS, claim=2)

    calls = (
        successful_call("ADD", WEB, ADDRESS, after=2, before=1),
        successful_call("ADD", SECOND_SANDBOX_OF_WEB, ADDRESS, after=3, before=2),
        successful_call("ADD", SECOND_SANDBOX_OF_WEB, ADDRESS, after=4, before=3),
        successful_call("ADD", OTHER, NEXT_ADDRESS, after=4, before=3),
        successful_call("DEL", SECOND_SANDBOX_OF_WEB, after=5),
        successful_call("DEL", SECOND_SANDBOX_OF_WEB, after=9),
    )
    assert broken_rules(log, *calls, living={OTHER: NEXT_ADDRESS}) == []


def test_a_second_claim_of_an_address_is_reported_as_held_twice() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(OTHER, ADDRESS)

    assert "held-twice" in broken_rules(log, living={OTHER: ADDRESS})


@pytest.mark.parametrize(("holder", "claim"), [(OTHER, 2), (WEB, 1)])
def test_a_release_of_a_claim_that_the_pod_lacks_is_reported(holder: Sandbox, claim: int) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.release(holder, ADDRESS, claim=claim)

    assert "foreign-release" in broken_rules(log)


@pytest.mark.parametrize(
    ("disabled", "address"),
    [(False, ADDRESS), (True, NEXT_ADDRESS)],
    ids=["address outside the ranges", "disabled pool"],
)
def test_a_claim_that_the_pool_does_not_allow_is_reported(disabled: bool, address: str) -> None:
    log = Log()
    log.pool("10.6.0.2-10.6.0.9", disabled=disabled)
    log.claim(WEB, address)

    assert broken_rules(log, living={WEB: address}) == ["outside-pool"]


def test_a_claim_of_a_quarantined_or_reserved_address_is_reported() -> None:
    log = Log()
    log.quarantine(ADDRESS)
    log.lift(ADDRESS)
    log.claim(WEB, ADDRESS)  # allowed: the quarantine was lifted
    log.quarantine("10.6.0.3")
    log.claim(OTHER, "10.6.0.3")
    log.reserve("10.6.0.4-10.6.0.5")
    log.claim(THIRD, "10.6.0.4")

    address_by_sandbox = {WEB: ADDRESS, OTHER: "10.6.0.3", THIRD: "10.6.0.4"}
    assert broken_rules(log, living=address_by_sandbox) == ["excluded", "excluded"]


def test_an_endpoint_without_its_claimed_address_is_reported() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(WEB, new=False)

    assert "wrong-endpoint" in broken_rules(log, living={WEB: ADDRESS})


@pytest.mark.parametrize(
    "call",
    [
        successful_call("ADD", WEB, NEXT_ADDRESS, after=2),
        successful_call("ADD", WEB, after=2),
        successful_call("ADD", WEB, ADDRESS, after=1),
        successful_call("ADD", SECOND_SANDBOX_OF_WEB, ADDRESS, after=2),
        successful_call("ADD", WEB._replace(uid="uid-9"), ADDRESS, after=2),
    ],
    ids=["wrong address", "no address", "answer before claim", "wrong sandbox", "wrong Pod"],
)
def test_an_add_without_a_claim_in_the_log_is_reported(
    call: CallRecord,
) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert broken_rules(log, call, living={WEB: ADDRESS}) == ["unlogged-add"]


def test_an_add_that_begins_after_the_release_is_reported() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.release(WEB, ADDRESS, claim=2)

    assert broken_rules(log, successful_call("ADD", WEB, ADDRESS, after=4, before=3)) == [
        "unlogged-add"
    ]


def test_a_del_that_ends_before_the_release_is_reported() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(OTHER, NEXT_ADDRESS)
    log.release(WEB, ADDRESS, claim=2)

    assert broken_rules(
        log, successful_call("DEL", WEB, after=3), living={OTHER: NEXT_ADDRESS}
    ) == ["ineffective-delete"]
    assert (
        broken_rules(log, successful_call("DEL", WEB, after=4), living={OTHER: NEXT_ADDRESS}) == []
    )


def test_different_answers_to_adds_of_one_sandbox_are_reported() -> None:
    log = Log()
    log.claim(WEB, ADDRESS, NEXT_ADDRESS)

    calls = (
        successful_call("ADD", WEB, ADDRESS, after=2),
        successful_call("ADD", WEB, NEXT_ADDRESS, after=2),
    )
    broken = broken_rules(log, *calls, living={WEB: ADDRESS}, keys={ADDRESS, NEXT_ADDRESS})
    assert "different-answer" in broken


@pytest.mark.parametrize(
    ("living", "keys"),
    [
        ({}, {ADDRESS}),
        ({WEB: ADDRESS, OTHER: NEXT_ADDRESS}, {ADDRESS}),
        ({SECOND_SANDBOX_OF_WEB: ADDRESS}, {ADDRESS}),
    ],
    ids=["no Pod lives", "a living Pod has no claim", "another sandbox lives"],
)
def test_a_difference_between_claims_and_living_pods_is_reported(
    living: dict[Sandbox, str], keys: set[str]
) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert broken_rules(log, living=living, keys=keys) == ["leak"]


@pytest.mark.parametrize("keys", [set(), {ADDRESS, NEXT_ADDRESS}], ids=["too few", "too many"])
def test_claim_keys_that_differ_from_the_log_are_reported(keys: set[str]) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert broken_rules(log, living={WEB: ADDRESS}, keys=keys) == ["wrong-state"]
