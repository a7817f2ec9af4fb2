"""Which changes of a Pod start which deadline.

See docs/reference/reclaim-rules.md, "Deadlines".
"""

from __future__ import annotations

import pytest

from core.domain.evolution import Ledger
from core.domain.fixed.owners import StatefulSetState
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.deadlines import NoDeadline, ReclaimDeadline, ReclaimDeadlines, deadline_of
from core.domain.reclaim.evidence import OBSERVATION_GAP_S, Moment
from core.domain.reclaim.reclaim_plan import KeptClaims, ReclaimStep, resolve
from core.domain.reclaim.settings import VARIABLES, ReclaimSettings
from tests.core.domain.reclaim.samples import DB, NOW_S, cluster, hold, rules
from tests.core.domain.reclaim.scripted_cluster import OBSERVER, moment

IP = "10.6.0.1"
POD = PodState("shop", "web-0", "1", node="n1", ips=(IP,), grace_s=30)
DELETING = POD._replace(deletion_s=NOW_S + 30, deletion_grace_s=30)
DONE = POD._replace(phase="Succeeded", restart_policy="Never", finished_s=(5.0, NOW_S - 7))
DEFAULTS = ReclaimSettings()
DELAYED = ReclaimSettings(extra_delay_s=100)


def traced(
    pod: PodState,
    settings: ReclaimSettings = DEFAULTS,
    sets: tuple[StatefulSetState, ...] = (),
    *,
    deleted: bool = False,
) -> ReclaimDeadline | NoDeadline:
    report = "it was deleted" if deleted else ""
    return deadline_of(pod, cluster(stateful_sets=sets), settings, moment(NOW_S), deleted=report)


@pytest.mark.parametrize(
    ("pod", "settings", "deleted", "reason", "deadline_s"),
    [
        (POD, DEFAULTS, True, "deleted", NOW_S),
        (POD, DELAYED, True, "deleted", NOW_S + 100),
        (POD._replace(node="n9"), DEFAULTS, True, "deleted", NOW_S),
        # The timestamp includes one grace already: request + 2 x grace + delay.
        (DELETING, DEFAULTS, False, "deleting", NOW_S + 60),
        (DELETING, DELAYED, False, "deleting", NOW_S + 160),
        (DELETING._replace(node="n2"), DEFAULTS, False, "deleting", NOW_S + 60),
        (DONE, DEFAULTS, False, "finished", NOW_S + 23),
        (DONE._replace(phase="Failed", reason="Evicted"), DEFAULTS, False, "finished", NOW_S + 23),
        (
            DONE._replace(deletion_s=NOW_S, deletion_grace_s=30),
            DEFAULTS, False, "deleting", NOW_S + 30,
        ),
    ],
)  # fmt: skip
def test_a_reported_deletion_starts_its_deadline(
    pod: PodState, settings: ReclaimSettings, reason: str, deadline_s: float, *, deleted: bool
) -> None:
    found = traced(pod, settings, deleted=deleted)

    assert isinstance(found, ReclaimDeadline)
    assert (found.reason, found.deadline_s) == (reason, deadline_s)
    assert found.stop_s >= deadline_s


@pytest.mark.parametrize(
    ("pod", "settings", "deleted"),
    [
        (POD, DEFAULTS, False),
        (POD, ReclaimSettings(enabled=False), True),
        (POD._replace(host_network=True), DEFAULTS, True),
        (DELETING, ReclaimSettings(on_ready_node=False), False),
        (DELETING._replace(node="n2"), ReclaimSettings(on_not_ready_node=False), False),
        (DELETING._replace(node="n9"), DEFAULTS, False),
        (DONE, ReclaimSettings(on_ready_node=False), False),
        (DONE._replace(finished_s=()), DEFAULTS, False),
        (POD._replace(name="db-0", owner=DB), DEFAULTS, True),
    ],
)
def test_other_news_starts_nothing_and_says_why(
    pod: PodState, settings: ReclaimSettings, *, deleted: bool
) -> None:
    found = traced(pod, settings, (StatefulSetState("shop", "db", 1),), deleted=deleted)

    assert isinstance(found, NoDeadline)
    assert found.why


def test_node_flags_do_not_matter_once_the_pod_is_deleted() -> None:
    off = ReclaimSettings(on_ready_node=False, on_not_ready_node=False)

    assert isinstance(traced(POD, off, deleted=True), ReclaimDeadline)


def test_a_deadline_that_is_over_still_leaves_room_for_a_second_look() -> None:
    found = traced(DELETING._replace(deletion_s=5.0))

    assert isinstance(found, ReclaimDeadline)
    assert found.stop_s == NOW_S + OBSERVATION_GAP_S


def test_the_book_has_a_capacity_and_says_what_it_dropped() -> None:
    book = ReclaimDeadlines(2)
    entries = [
        ReclaimDeadline(("shop", str(i)), str(i), str(i), "n1", "deleted", moment(1), 1.0)
        for i in range(3)
    ]

    assert [book.put(entry) for entry in entries] == [True, True, False]
    assert (len(book), book.dropped) == (2, 1)
    assert book.put(entries[0])
    book.forget("0")
    assert book.put(entries[2])


def test_the_book_keeps_the_first_observation_and_never_takes_a_deletion_back() -> None:
    book = ReclaimDeadlines(9)
    first = ReclaimDeadline(("shop", "a"), "a", "1", "n1", "deleting", moment(1), 60.0)
    book.put(first)
    book.put(first._replace(seen=moment(5), deadline_s=90.0))
    assert list(book) == [first._replace(deadline_s=90.0)]

    gone = first._replace(reason="deleted", seen=moment(9), deadline_s=9.0)
    book.put(gone)
    book.put(first._replace(seen=moment(10)))

    assert list(book) == [gone]


def test_due_entries_are_ordered_by_age() -> None:
    book = ReclaimDeadlines(9)
    for uid, stop in (("late", 30.0), ("b", 20.0), ("a", 10.0)):
        book.put(ReclaimDeadline(("shop", uid), uid, uid, "n1", "deleted", moment(0), stop))

    assert [one.uid for one in book.due(20.0)] == ["a", "b"]


def test_a_reported_deletion_is_released_after_one_look() -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = ReclaimDeadline(("shop", "web-0"), "web-0", "1", "n1", "deleted", moment(NOW_S), NOW_S)

    step = resolve(entry, ledger, rules(cluster()))

    assert isinstance(step, ReclaimStep)
    assert step.addresses == (IP,)
    assert (step.evidence.source, step.evidence.times) == ("event", 1)


def test_a_trace_ends_with_its_endpoint() -> None:
    entry = ReclaimDeadline(("shop", "web-0"), "web-0", "1", "n1", "deleted", moment(NOW_S), NOW_S)

    assert resolve(entry, Ledger(), rules(cluster())) is None


@pytest.mark.parametrize(
    "pods",
    [
        (POD,),
        (POD._replace(uid="2", name="other"),),
    ],
    ids=["the Pod lives", "another Pod reports the address"],
)
def test_a_reported_deletion_that_a_listing_contradicts_releases_nothing(
    pods: tuple[PodState, ...],
) -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = ReclaimDeadline(("shop", "web-0"), "web-0", "1", "n1", "deleted", moment(NOW_S), NOW_S)

    assert isinstance(resolve(entry, ledger, rules(cluster(*pods))), KeptClaims)


def test_a_trace_of_an_older_pod_does_not_touch_its_successor() -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "2", IP)
    entry = ReclaimDeadline(("shop", "web-0"), "web-0", "1", "n1", "deleted", moment(NOW_S), NOW_S)

    assert isinstance(resolve(entry, ledger, rules(cluster())), KeptClaims)


def test_a_replica_that_is_expected_again_keeps_its_address() -> None:
    ledger = Ledger()
    hold(ledger, "db-0", "1", IP, fixed=True)
    entry = ReclaimDeadline(("shop", "db-0"), "db-0", "1", "n1", "deleted", moment(NOW_S), NOW_S)
    wanted = cluster(stateful_sets=[StatefulSetState("shop", "db", 1)])

    assert isinstance(resolve(entry, ledger, rules(wanted)), KeptClaims)
    assert isinstance(resolve(entry, ledger, rules(cluster())), ReclaimStep)


def test_a_release_needs_the_end_of_the_deadline_and_a_trusted_listing() -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = traced(DELETING)
    assert isinstance(entry, ReclaimDeadline)
    early = resolve(entry, ledger, rules(cluster(DELETING, at_s=NOW_S + 59)))
    blind = resolve(entry, ledger, rules(cluster(DELETING, at_s=NOW_S + 60, complete=False)))
    late = resolve(entry, ledger, rules(cluster(DELETING, at_s=NOW_S + 60)))

    assert isinstance(early, KeptClaims)
    assert early.until_s == NOW_S + 60
    assert isinstance(blind, KeptClaims)
    assert isinstance(late, ReclaimStep)
    assert late.evidence.times == 2


def test_a_listing_close_to_the_report_is_not_a_second_observation() -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = traced(DELETING)
    assert isinstance(entry, ReclaimDeadline)
    old = cluster(DELETING, at_s=NOW_S + 1)

    found = resolve(entry, ledger, rules(old, now_s=NOW_S + 500))

    assert isinstance(found, KeptClaims)
    assert found.until_s == NOW_S + 500 + OBSERVATION_GAP_S - 1


@pytest.mark.parametrize("jump_s", [-3_600.0, 3_600.0])
def test_a_calendar_that_is_set_neither_shortens_nor_hides_the_gap(jump_s: float) -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = traced(DELETING._replace(deletion_s=5.0))
    assert isinstance(entry, ReclaimDeadline)

    def look(after_s: float) -> ReclaimStep | KeptClaims | None:
        listed = cluster(DELETING._replace(deletion_s=5.0))
        listed.seen = Moment(NOW_S + jump_s, OBSERVER, NOW_S + after_s)
        return resolve(entry, ledger, rules(listed, now_s=NOW_S + 4_000))

    assert isinstance(look(OBSERVATION_GAP_S - 1), KeptClaims)
    assert isinstance(look(OBSERVATION_GAP_S), ReclaimStep)


def test_news_that_another_observer_heard_is_no_first_observation() -> None:
    ledger = Ledger()
    hold(ledger, "web-0", "1", IP)
    entry = traced(DELETING)
    assert isinstance(entry, ReclaimDeadline)
    elsewhere = entry._replace(seen=moment(NOW_S, "another controller"))
    late = rules(cluster(DELETING, at_s=NOW_S + 500))

    assert isinstance(resolve(entry, ledger, late), ReclaimStep)
    assert isinstance(resolve(elsewhere, ledger, late), KeptClaims)


def test_the_defaults_are_those_of_spiderpool() -> None:
    assert DEFAULTS[:13] == (
        *(True, True, True, False, 3, 5_000, 100_000),
        *(600.0, 5.0, 3.0, 1.0, 0.0, 5),
    )
    assert tuple(VARIABLES) == ReclaimSettings._fields[:13]
    assert all(name.startswith("SPIDERPOOL_GC_") for name in VARIABLES.values())
