"""Which changes of a Pod start a reclaim deadline, and what an expired deadline releases.

See docs/reference/reclaim-rules.md, "Deadlines".
"""

from __future__ import annotations

import pytest

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import StatefulSetState
from core.domain.reclaim.decision_table import (
    NoDeadline,
    PodDeadlines,
    ReclaimDeadline,
    deadline_of,
)
from core.domain.reclaim.evidence import OBSERVATION_GAP_S, Moment, PodState
from core.domain.reclaim.reclaim_plan import KeptClaims, ReclaimStep, check_deadline
from core.domain.reclaim.settings import RECLAIM_VARIABLES, ReclaimSettings
from tests.core.domain.reclaim.samples import (
    DB_OWNER,
    NOW_S,
    add_endpoint,
    cluster,
    verdict_context,
)
from tests.core.domain.reclaim.scripted_cluster import OBSERVER_NAME, moment

# In the sample cluster, node n1 is ready, n2 is not ready, and n9 does not exist.
IP = "10.6.0.1"
POD = PodState("shop", "web-0", "1", node="n1", ips=(IP,), grace_s=30)
DELETING = POD._replace(deletion_s=NOW_S + 30, deletion_grace_s=30)
ENDED = POD._replace(phase="Succeeded", restart_policy="Never", finished_s=(5.0, NOW_S - 7))
DEFAULTS = ReclaimSettings()
DELAYED = ReclaimSettings(extra_delay_s=100)


def deadline_after(
    pod: PodState,
    settings: ReclaimSettings = DEFAULTS,
    sets: tuple[StatefulSetState, ...] = (),
    *,
    deleted: bool = False,
) -> ReclaimDeadline | NoDeadline:
    """The result of a watch event of the Pod."""
    report = "it was deleted" if deleted else ""
    return deadline_of(pod, cluster(stateful_sets=sets), settings, moment(NOW_S), deleted=report)


@pytest.mark.parametrize(
    ("pod", "settings", "deleted", "reason", "deadline_s"),
    [
        (POD, DEFAULTS, True, "deleted", NOW_S),
        (POD, DELAYED, True, "deleted", NOW_S + 100),
        (POD._replace(node="n9"), DEFAULTS, True, "deleted", NOW_S),
        # deletionTimestamp includes one grace period; the deadline adds a second grace period.
        (DELETING, DEFAULTS, False, "deleting", NOW_S + 60),
        (DELETING, DELAYED, False, "deleting", NOW_S + 160),
        (DELETING._replace(node="n2"), DEFAULTS, False, "deleting", NOW_S + 60),
        # The last container ended 7 s ago; 23 s of the grace period remain.
        (ENDED, DEFAULTS, False, "finished", NOW_S + 23),
        (ENDED._replace(phase="Failed", reason="Evicted"), DEFAULTS, False, "finished", NOW_S + 23),
        (
            ENDED._replace(deletion_s=NOW_S, deletion_grace_s=30),
            DEFAULTS, False, "deleting", NOW_S + 30,
        ),
    ],
)  # fmt: skip
def test_a_deleting_deleted_or_finished_pod_starts_a_deadline(
    pod: PodState, settings: ReclaimSettings, reason: str, deadline_s: float, *, deleted: bool
) -> None:
    deadline = deadline_after(pod, settings, deleted=deleted)

    assert isinstance(deadline, ReclaimDeadline)
    assert (deadline.reason, deadline.deadline_s) == (reason, deadline_s)
    assert deadline.expires_s >= deadline_s


@pytest.mark.parametrize(
    ("pod", "settings", "deleted"),
    [
        (POD, DEFAULTS, False),
        (POD, ReclaimSettings(enabled=False), True),
        (POD._replace(host_network=True), DEFAULTS, True),
        (DELETING, ReclaimSettings(on_ready_node=False), False),
        (DELETING._replace(node="n2"), ReclaimSettings(on_not_ready_node=False), False),
        (DELETING._replace(node="n9"), DEFAULTS, False),
        (ENDED, ReclaimSettings(on_ready_node=False), False),
        (ENDED._replace(finished_s=()), DEFAULTS, False),
        (POD._replace(name="db-0", owner=DB_OWNER), DEFAULTS, True),
    ],
    ids=[
        "a living Pod",
        "reclaim is disabled",
        "a Pod on the host network",
        "reclaim is disabled on ready nodes",
        "reclaim is disabled on nodes that are not ready",
        "an unknown node",
        "finished, and reclaim is disabled on ready nodes",
        "finished at an unknown time",
        "an expected replica",
    ],
)
def test_a_change_that_starts_no_deadline_gives_the_reason(
    pod: PodState, settings: ReclaimSettings, *, deleted: bool
) -> None:
    result = deadline_after(
        pod, settings, (StatefulSetState("shop", "db", replicas=1),), deleted=deleted
    )

    assert isinstance(result, NoDeadline)
    assert result.why


def test_a_deleted_pod_starts_a_deadline_although_both_node_settings_are_off() -> None:
    both_off = ReclaimSettings(on_ready_node=False, on_not_ready_node=False)

    assert isinstance(deadline_after(POD, both_off, deleted=True), ReclaimDeadline)


def test_a_deadline_in_the_past_expires_after_the_observation_gap() -> None:
    deadline = deadline_after(DELETING._replace(deletion_s=5.0))

    assert isinstance(deadline, ReclaimDeadline)
    assert deadline.expires_s == NOW_S + OBSERVATION_GAP_S


def test_the_number_of_deadlines_is_bounded_and_dropped_deadlines_are_counted() -> None:
    deadlines = PodDeadlines(2)
    entries = [
        ReclaimDeadline(
            ("shop", str(number)),
            str(number),
            uid=str(number),
            node="n1",
            reason="deleted",
            seen=moment(1),
            deadline_s=1.0,
        )
        for number in range(3)
    ]

    assert [deadlines.put(deadline) for deadline in entries] == [True, True, False]
    assert (len(deadlines), deadlines.dropped) == (2, 1)
    assert deadlines.put(entries[0])  # replaces the first deadline
    deadlines.forget("0")
    assert deadlines.put(entries[2])


def test_a_later_deadline_of_a_pod_keeps_the_first_observation_and_a_reported_deletion() -> None:
    deadlines = PodDeadlines(9)
    deadline = ReclaimDeadline(
        ("shop", "a"), "a", uid="1", node="n1", reason="deleting", seen=moment(1), deadline_s=60.0
    )
    deadlines.put(deadline)
    deadlines.put(deadline._replace(seen=moment(5), deadline_s=90.0))
    assert list(deadlines) == [deadline._replace(deadline_s=90.0)]

    deletion = deadline._replace(reason="deleted", seen=moment(9), deadline_s=9.0)
    deadlines.put(deletion)
    deadlines.put(deadline._replace(seen=moment(10)))

    assert list(deadlines) == [deletion]


def test_due_deadlines_are_ordered_by_time() -> None:
    deadlines = PodDeadlines(9)
    for uid, deadline_s in (("late", 30.0), ("b", 20.0), ("a", 10.0)):
        deadlines.put(
            ReclaimDeadline(
                ("shop", uid),
                uid,
                uid=uid,
                node="n1",
                reason="deleted",
                seen=moment(0),
                deadline_s=deadline_s,
            )
        )

    assert [due.uid for due in deadlines.due(20.0)] == ["a", "b"]


def test_a_reported_deletion_releases_the_address_after_one_listing() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = ReclaimDeadline(
        ("shop", "web-0"),
        "web-0",
        uid="1",
        node="n1",
        reason="deleted",
        seen=moment(NOW_S),
        deadline_s=NOW_S,
    )

    step = check_deadline(deadline, ledger, verdict_context(cluster()))

    assert isinstance(step, ReclaimStep)
    assert step.addresses == (IP,)
    assert (step.evidence.source, step.evidence.times) == ("event", 1)


def test_a_deadline_without_an_endpoint_gives_no_decision() -> None:
    deadline = ReclaimDeadline(
        ("shop", "web-0"),
        "web-0",
        uid="1",
        node="n1",
        reason="deleted",
        seen=moment(NOW_S),
        deadline_s=NOW_S,
    )

    assert check_deadline(deadline, Ledger(), verdict_context(cluster())) is None


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
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = ReclaimDeadline(
        ("shop", "web-0"),
        "web-0",
        uid="1",
        node="n1",
        reason="deleted",
        seen=moment(NOW_S),
        deadline_s=NOW_S,
    )

    assert isinstance(check_deadline(deadline, ledger, verdict_context(cluster(*pods))), KeptClaims)


def test_the_deadline_of_an_older_pod_releases_nothing_of_the_next_pod() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "2", IP)
    deadline = ReclaimDeadline(
        ("shop", "web-0"),
        "web-0",
        uid="1",
        node="n1",
        reason="deleted",
        seen=moment(NOW_S),
        deadline_s=NOW_S,
    )

    assert isinstance(check_deadline(deadline, ledger, verdict_context(cluster())), KeptClaims)


def test_only_an_expected_replica_keeps_its_address_at_the_deadline() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "db-0", "1", IP, fixed=True)
    deadline = ReclaimDeadline(
        ("shop", "db-0"),
        "db-0",
        uid="1",
        node="n1",
        reason="deleted",
        seen=moment(NOW_S),
        deadline_s=NOW_S,
    )
    one_replica = cluster(stateful_sets=[StatefulSetState("shop", "db", replicas=1)])

    assert isinstance(check_deadline(deadline, ledger, verdict_context(one_replica)), KeptClaims)
    assert isinstance(check_deadline(deadline, ledger, verdict_context(cluster())), ReclaimStep)


def test_a_release_needs_an_expired_deadline_and_a_complete_listing() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = deadline_after(DELETING)
    assert isinstance(deadline, ReclaimDeadline)
    result_before_deadline = check_deadline(
        deadline, ledger, verdict_context(cluster(DELETING, at_s=NOW_S + 59))
    )
    result_of_incomplete_listing = check_deadline(
        deadline, ledger, verdict_context(cluster(DELETING, at_s=NOW_S + 60, complete=False))
    )
    result_at_deadline = check_deadline(
        deadline, ledger, verdict_context(cluster(DELETING, at_s=NOW_S + 60))
    )

    assert isinstance(result_before_deadline, KeptClaims)
    assert result_before_deadline.until_s == NOW_S + 60
    assert isinstance(result_of_incomplete_listing, KeptClaims)
    assert isinstance(result_at_deadline, ReclaimStep)
    assert result_at_deadline.evidence.times == 2


def test_a_listing_close_to_the_watch_event_is_not_a_second_observation() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = deadline_after(DELETING)
    assert isinstance(deadline, ReclaimDeadline)
    listed_soon = cluster(DELETING, at_s=NOW_S + 1)

    result = check_deadline(deadline, ledger, verdict_context(listed_soon, now_s=NOW_S + 500))

    assert isinstance(result, KeptClaims)
    assert result.until_s == NOW_S + 500 + OBSERVATION_GAP_S - 1


@pytest.mark.parametrize("jump_s", [-3_600.0, 3_600.0])
def test_a_change_of_the_wall_clock_does_not_change_the_observation_gap(jump_s: float) -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = deadline_after(DELETING._replace(deletion_s=5.0))
    assert isinstance(deadline, ReclaimDeadline)

    def decide_after(after_s: float) -> ReclaimStep | KeptClaims | None:
        listed = cluster(DELETING._replace(deletion_s=5.0))
        listed.observed_at = Moment(
            unix_s=NOW_S + jump_s, observer=OBSERVER_NAME, steady_s=NOW_S + after_s
        )
        return check_deadline(deadline, ledger, verdict_context(listed, now_s=NOW_S + 4_000))

    assert isinstance(decide_after(OBSERVATION_GAP_S - 1), KeptClaims)
    assert isinstance(decide_after(OBSERVATION_GAP_S), ReclaimStep)


def test_an_event_of_another_observer_is_not_a_first_observation() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    deadline = deadline_after(DELETING)
    assert isinstance(deadline, ReclaimDeadline)
    deadline_of_other_observer = deadline._replace(seen=moment(NOW_S, "another controller"))
    later_context = verdict_context(cluster(DELETING, at_s=NOW_S + 500))

    assert isinstance(check_deadline(deadline, ledger, later_context), ReclaimStep)
    assert isinstance(check_deadline(deadline_of_other_observer, ledger, later_context), KeptClaims)


def test_the_defaults_are_those_of_spiderpool() -> None:
    assert {name: getattr(DEFAULTS, name) for name in RECLAIM_VARIABLES} == {
        "enabled": True,
        "on_ready_node": True,
        "on_not_ready_node": True,
        "running_without_address": False,
        "workers": 3,
        "queue_max": 5_000,
        "deadlines_max": 100_000,
        "scan_interval_s": 600.0,
        "deadline_interval_s": 5.0,
        "queue_wait_s": 3.0,
        "on_demand_gap_s": 1.0,
        "extra_delay_s": 0.0,
        "tries_max": 5,
    }
    assert all(name.startswith("SPIDERPOOL_GC_") for name in RECLAIM_VARIABLES.values())
