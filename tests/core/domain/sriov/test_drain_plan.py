"""Which nodes are cordoned, drained and uncordoned, and in which order."""

from __future__ import annotations

import pytest

from core.domain.sriov.drain_plan import (
    DRAIN_S_MAX,
    RETRY_S,
    CordonNode,
    DrainRecord,
    DrainRequest,
    EvictPods,
    UncordonNode,
    plan_drains,
)

NOW = 1_000_000.0
A, B, C = (DrainRequest(node, pods=(f"shop/{node}",)) for node in "abc")


def test_a_node_is_cordoned_before_its_pods_are_evicted() -> None:
    first_plan = plan_drains([A], cordoned=[], records={}, now_s=NOW, max_unavailable=1)
    second_plan = plan_drains(
        [A], cordoned=["a"], records=first_plan.records, now_s=NOW + 5, max_unavailable=1
    )

    assert first_plan.steps == (CordonNode("a"),)
    assert second_plan.steps == (EvictPods("a", ("shop/a",)),)
    assert second_plan.records == {"a": DrainRecord(began_s=NOW)}


@pytest.mark.parametrize(
    ("max_unavailable", "cordoned"), [(1, ["a"]), (2, ["a", "b"]), (9, ["a", "b", "c"])]
)
def test_at_most_max_unavailable_nodes_are_drained_at_a_time(
    max_unavailable: int, cordoned: list[str]
) -> None:
    plan = plan_drains(
        [C, B, A], cordoned=[], records={}, now_s=NOW, max_unavailable=max_unavailable
    )

    assert plan.steps == tuple(map(CordonNode, cordoned))


def test_the_next_node_is_cordoned_when_a_drain_is_finished() -> None:
    plan = plan_drains(
        [B], cordoned=["a"], records={"a": DrainRecord(began_s=NOW)}, now_s=NOW, max_unavailable=1
    )

    assert plan.steps == (UncordonNode("a"), CordonNode("b"))
    assert plan.records == {"b": DrainRecord(began_s=NOW)}


def test_a_drain_timeout_uncordons_the_node_and_cordons_the_next() -> None:
    plan = plan_drains(
        [A, B],
        cordoned=["a"],
        records={"a": DrainRecord(began_s=NOW)},
        now_s=NOW + DRAIN_S_MAX,
        max_unavailable=1,
    )

    assert plan.steps == (UncordonNode("a"), CordonNode("b"))
    assert plan.records["a"] == DrainRecord(began_s=NOW, given_up_s=NOW + DRAIN_S_MAX)


def test_a_node_whose_drain_timed_out_is_drained_again_later() -> None:
    timed_out_records = {"a": DrainRecord(began_s=NOW - DRAIN_S_MAX, given_up_s=NOW)}

    soon = plan_drains(
        [A], cordoned=[], records=timed_out_records, now_s=NOW + RETRY_S - 1, max_unavailable=1
    )
    later = plan_drains(
        [A], cordoned=[], records=timed_out_records, now_s=NOW + RETRY_S, max_unavailable=1
    )

    assert soon.steps == ()
    assert soon.records == timed_out_records
    assert later.steps == (CordonNode("a"),)


def test_a_new_node_is_drained_before_nodes_whose_drain_timed_out() -> None:
    timed_out_records = {
        "a": DrainRecord(began_s=0.0, given_up_s=NOW - RETRY_S),
        "b": DrainRecord(began_s=0.0, given_up_s=NOW - RETRY_S - 1),
    }

    with_new_node = plan_drains(
        [A, B, C], cordoned=[], records=timed_out_records, now_s=NOW, max_unavailable=1
    )
    without_new_node = plan_drains(
        [A, B], cordoned=[], records=timed_out_records, now_s=NOW, max_unavailable=1
    )

    assert with_new_node.steps == (CordonNode("c"),)
    assert without_new_node.steps == (CordonNode("b"),), "b timed out before a"


def test_every_node_is_uncordoned_if_no_node_may_be_unavailable() -> None:
    plan = plan_drains(
        [A, B],
        cordoned=["a"],
        records={"a": DrainRecord(began_s=NOW)},
        now_s=NOW,
        max_unavailable=0,
    )

    assert plan.steps == (UncordonNode("a"),)
    assert plan.records == {}


def test_the_record_of_a_timed_out_drain_is_kept_until_the_node_is_uncordoned() -> None:
    timed_out_records = {"a": DrainRecord(began_s=NOW - DRAIN_S_MAX, given_up_s=NOW)}

    plan = plan_drains(
        [A], cordoned=["a"], records=timed_out_records, now_s=NOW + 5, max_unavailable=1
    )

    assert plan.steps == (UncordonNode("a"),)
    assert plan.records == timed_out_records


def test_a_cordoned_node_without_a_record_is_drained() -> None:
    plan = plan_drains([A], cordoned=["a"], records={}, now_s=NOW, max_unavailable=1)

    assert plan.steps == (EvictPods("a", ("shop/a",)),)
    assert plan.records == {"a": DrainRecord(began_s=NOW)}


def test_every_cordoned_node_is_uncordoned_if_no_node_requests_a_drain() -> None:
    plan = plan_drains(
        [],
        cordoned=["a", "b"],
        records={"c": DrainRecord(began_s=NOW, given_up_s=NOW)},
        now_s=NOW,
        max_unavailable=1,
    )

    assert plan.steps == (UncordonNode("a"), UncordonNode("b"))
    assert plan.records == {}


def test_a_cordoned_node_without_pods_needs_no_step() -> None:
    assert (
        plan_drains(
            [DrainRequest("a")], cordoned=["a"], records={}, now_s=NOW, max_unavailable=1
        ).steps
        == ()
    )
