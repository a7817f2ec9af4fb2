"""The checker of fault runs finds each kind of violation, and none where there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chaos.call_record import CallRecord
from tests.chaos.callers import Reply, Sandbox
from tests.chaos.checker import Evidence, judge
from tests.chaos.history import Event, read_export

WEB = Sandbox("web", "uid-1", "container-1", "/netns/1")
AGAIN = Sandbox("web", "uid-1", "container-2", "/netns/2")
OTHER = Sandbox("other", "uid-2", "container-3", "/netns/3")
THIRD = Sandbox("third", "uid-3", "container-4", "/netns/4")
ADDRESS, NEXT = "10.6.0.1", "10.6.0.2"


class Log:
    """An export in the making; positions count from 1."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.pool("10.6.0.1-10.6.0.9")

    @property
    def position(self) -> int:
        """Of the newest event."""
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

    def release(self, sandbox: Sandbox, address: str, claim: int) -> None:
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


def answered(
    verb: str, sandbox: Sandbox, after: int, *addresses: str, before: int = 0
) -> CallRecord:
    return CallRecord(verb, 0, sandbox, Reply(0, addresses), before, after)


def rules(
    log: Log,
    *calls: CallRecord,
    living: dict[Sandbox, str] | None = None,
    keys: set[str] | None = None,
) -> list[str]:
    """The rules that are broken; by default etcd has the keys that the living Pods hold."""
    lives = {sandbox.container: (address,) for sandbox, address in (living or {}).items()}
    held = {address for addresses in lives.values() for address in addresses}
    evidence = Evidence(list(calls), lives, frozenset(held if keys is None else keys))
    return [violation.rule for violation in judge(log.events(), evidence)]


def test_a_life_as_it_should_be_breaks_no_rule() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(AGAIN, ADDRESS, new=False)
    log.claim(OTHER, NEXT)
    log.release(AGAIN, ADDRESS, 2)

    calls = (
        answered("ADD", WEB, 2, ADDRESS, before=1),
        answered("ADD", AGAIN, 3, ADDRESS, before=2),
        answered("ADD", AGAIN, 4, ADDRESS, before=3),
        answered("ADD", OTHER, 4, NEXT, before=3),
        answered("DEL", AGAIN, 5),
        answered("DEL", AGAIN, 9),
    )
    assert rules(log, *calls, living={OTHER: NEXT}) == []


def test_an_address_that_is_held_twice() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(OTHER, ADDRESS)

    assert "held-twice" in rules(log, living={OTHER: ADDRESS})


@pytest.mark.parametrize(("holder", "claim"), [(OTHER, 2), (WEB, 1)])
def test_a_release_of_what_is_not_its_own(holder: Sandbox, claim: int) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.release(holder, ADDRESS, claim)

    assert "foreign-end" in rules(log)


@pytest.mark.parametrize("disabled", [False, True])
def test_an_address_that_its_pool_does_not_give(disabled: bool) -> None:
    log = Log()
    log.pool("10.6.0.2-10.6.0.9", disabled=disabled)
    log.claim(WEB, NEXT if disabled else ADDRESS)

    assert rules(log, living={WEB: NEXT if disabled else ADDRESS}) == ["outside-pool"]


def test_an_address_that_is_set_aside() -> None:
    log = Log()
    log.quarantine(ADDRESS)
    log.lift(ADDRESS)
    log.claim(WEB, ADDRESS)
    log.quarantine("10.6.0.3")
    log.claim(OTHER, "10.6.0.3")
    log.reserve("10.6.0.4-10.6.0.5")
    log.claim(THIRD, "10.6.0.4")

    lives = {WEB: ADDRESS, OTHER: "10.6.0.3", THIRD: "10.6.0.4"}
    assert rules(log, living=lives) == ["set-aside", "set-aside"]


def test_an_endpoint_that_has_lost_an_address() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(WEB, new=False)

    assert "lost-address" in rules(log, living={WEB: ADDRESS})


@pytest.mark.parametrize(
    "call",
    [
        answered("ADD", WEB, 2, NEXT),
        answered("ADD", WEB, 2),
        answered("ADD", WEB, 1, ADDRESS),
        answered("ADD", AGAIN, 2, ADDRESS),
        answered("ADD", WEB._replace(uid="uid-9"), 2, ADDRESS),
    ],
    ids=["another address", "none", "too early", "another sandbox", "another Pod"],
)
def test_an_add_that_the_log_does_not_have(call: CallRecord) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert rules(log, call, living={WEB: ADDRESS}) == ["unlogged-add"]


def test_an_add_that_is_answered_after_its_addresses_have_gone() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.release(WEB, ADDRESS, 2)

    assert rules(log, answered("ADD", WEB, 4, ADDRESS, before=3)) == ["unlogged-add"]


def test_a_delete_that_has_released_nothing() -> None:
    log = Log()
    log.claim(WEB, ADDRESS)
    log.claim(OTHER, NEXT)
    log.release(WEB, ADDRESS, 2)

    assert rules(log, answered("DEL", WEB, 3), living={OTHER: NEXT}) == ["idle-delete"]
    assert rules(log, answered("DEL", WEB, 4), living={OTHER: NEXT}) == []


def test_two_answers_to_one_sandbox() -> None:
    log = Log()
    log.claim(WEB, ADDRESS, NEXT)

    calls = answered("ADD", WEB, 2, ADDRESS), answered("ADD", WEB, 2, NEXT)
    broken = rules(log, *calls, living={WEB: ADDRESS}, keys={ADDRESS, NEXT})
    assert "second-answer" in broken


@pytest.mark.parametrize(
    ("living", "keys"),
    [({}, {ADDRESS}), ({WEB: ADDRESS, OTHER: NEXT}, {ADDRESS}), ({AGAIN: ADDRESS}, {ADDRESS})],
    ids=["none lives", "one lost its own", "another sandbox lives"],
)
def test_what_is_left_at_the_end(living: dict[Sandbox, str], keys: set[str]) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert rules(log, living=living, keys=keys) == ["leak"]


@pytest.mark.parametrize("keys", [set(), {ADDRESS, NEXT}], ids=["too few", "too many"])
def test_keys_that_are_not_what_the_log_says(keys: set[str]) -> None:
    log = Log()
    log.claim(WEB, ADDRESS)

    assert rules(log, living={WEB: ADDRESS}, keys=keys) == ["wrong-state"]
