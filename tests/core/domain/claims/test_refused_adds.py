"""The first refusal of an ADD becomes an event; later refusals in ``WINDOW_S`` share one event."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from core.domain.claims.refused_adds import (
    MESSAGE_CHARS_MAX,
    VERDICTS_MAX,
    WINDOW_S,
    WINDOWS_MAX,
    RefusalWindows,
    RefusedAdd,
    refusal_of,
)
from core.domain.events import Cause
from core.domain.selection.selection_request import DETAIL_CHARS_MAX, CandidateVerdict
from core.errors import AddressesUsedOut, AllocationError, NoPoolAvailable, PoolPending
from tests.support.node_harness import pod

CAUSE = Cause("agent")


def refused_add(
    name: str = "web-0", interface: str = "eth0", reason: str = "used-out"
) -> RefusedAdd:
    event = refusal_of(pod(name), interface, AddressesUsedOut("full"))
    return RefusedAdd(event._replace(reason=reason), CAUSE)


def verdict(name: str, detail: str = "") -> CandidateVerdict:
    return CandidateVerdict(
        "eth0",
        4,
        pool=name,
        accepted=False,
        rule="disabled",
        reason=f"disabled IPPool {name}",
        detail=detail,
    )


def test_a_refusal_event_has_pod_holder_reason_and_verdicts() -> None:
    error = NoPoolAvailable("no", remedy="do", verdicts=(verdict("a", "why"),), source="namespace")

    event = refusal_of(pod("web-0", node="n1"), "net1", error)

    assert (event.namespace, event.name, event.uid) == ("shop", "web-0", "uid-web-0")
    assert (event.node, event.holder, event.interface) == ("n1", "pod/uid-web-0", "net1")
    assert event.reason == "no-pool"
    assert (event.message, event.remedy, event.source) == ("no", "do", "namespace")
    assert [tuple(short) for short in event.verdicts] == [
        ("eth0", 4, "a", False, "disabled", "why")
    ]
    assert CandidateVerdict.from_short(event.verdicts[0]) == verdict("a", "why")._replace(reason="")


def test_an_error_without_its_own_reason_has_the_reason_other() -> None:
    reasons = [
        refusal_of(pod("web-0"), "eth0", error).reason
        for error in (PoolPending("no"), NoPoolAvailable("no"), AllocationError("no"))
    ]

    assert reasons == ["pool-pending", "no-pool", "other"]


def test_the_size_of_an_event_has_a_limit() -> None:
    verdicts = tuple(verdict(f"p{number}", "x" * 9_999) for number in range(VERDICTS_MAX + 5))

    event = refusal_of(pod("web-0"), "eth0", NoPoolAvailable("y" * 9_999, verdicts=verdicts))

    assert (len(event.verdicts), event.left_out) == (VERDICTS_MAX, 5)
    assert len(event.message) == MESSAGE_CHARS_MAX
    assert max(len(short.detail) for short in event.verdicts) == DETAIL_CHARS_MAX


def test_each_holder_nic_and_reason_has_its_own_window() -> None:
    windows = RefusalWindows()
    refusals = [
        refused_add(),
        refused_add("web-1"),
        refused_add(interface="net1"),
        refused_add(reason="no-pool"),
    ]

    assert [windows.note(refusal, 0.0) for refusal in refusals] == refusals
    assert [windows.note(refusal, 1.0) for refusal in refusals] == [None] * 4


def test_the_number_of_windows_is_bounded_and_an_ended_window_makes_room() -> None:
    windows = RefusalWindows()
    for number in range(WINDOWS_MAX):
        windows.note(refused_add(f"web-{number}"), 0.0)

    assert windows.note(refused_add("one-more"), 1.0) is None
    assert windows.overflows == 1
    assert list(windows.end_windows(WINDOW_S)) == [], "a refusal became two events"
    assert windows.next_end_s is None
    assert windows.note(refused_add("one-more"), WINDOW_S) is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 45)), max_size=60))
def test_the_events_count_every_refusal_and_are_at_least_a_minute_apart(
    attempts: list[tuple[str, float]],
) -> None:
    windows, now = RefusalWindows(), 0.0
    event_times: list[tuple[str, float, int]] = []
    for name, pause in attempts:
        now += pause
        ended_windows = windows.end_windows(now)
        event_times += [(refusal.event.name, now, refusal.event.times) for refusal in ended_windows]
        event_of_window = windows.note(refused_add(name), now)
        if event_of_window is not None:
            event_times.append((event_of_window.event.name, now, 1))
    at_close = sum(refusal.event.times for refusal in windows.close_all())
    total = sum(times for _, _, times in event_times) + at_close

    assert total == len(attempts)
    for name in "abc":
        times = [at for written_name, at, _ in event_times if written_name == name]
        assert all(later - earlier >= WINDOW_S for earlier, later in pairwise(times))
