"""An observation of many nodes fits into one payload."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from core.domain.sriov.drain_plan import (
    CordonNode,
    DrainPlan,
    DrainRecord,
    DrainRequest,
    UncordonNode,
    plan_drains,
)
from workflows.jobs.node_drain.drainer import (
    PODS_OBSERVED_MAX,
    DrainObservation,
    bounded_observation,
)
from workflows.jobs.node_drain.drains import ContinuedDrains
from workflows.model.limits import PAYLOAD_ERROR_BYTES

MAX_UNAVAILABLE = 1_000
NOW_S = 1_764_500_000.25


def nodes(count: int, suffix: str) -> list[str]:
    return [f"n{number}{suffix}" for number in range(count)]


def plan(
    observed: DrainObservation, records: Mapping[str, DrainRecord], max_unavailable: int
) -> DrainPlan:
    return plan_drains(
        observed.requests,
        observed.cordoned,
        records,
        NOW_S,
        max_unavailable,
        observed.further_cordoned,
        requests_truncated=observed.requests_truncated,
    )


@pytest.mark.parametrize("suffix", ["", ".eu-central-1.compute.internal", "." + "x" * 247])
@pytest.mark.parametrize("pods", [1, 300])
def test_the_observation_and_state_of_a_thousand_nodes_each_fit_into_a_payload(
    suffix: str, pods: int
) -> None:
    names = nodes(MAX_UNAVAILABLE, suffix)
    pods_to_evict = [f"training/worker-{number}" for number in range(pods)]

    observed = bounded_observation(dict.fromkeys(names, pods_to_evict), names)
    next_plan = plan(observed, {}, MAX_UNAVAILABLE)
    state = ContinuedDrains(next_plan.records, drained=12_345)

    assert len(msgspec.json.encode(observed)) < PAYLOAD_ERROR_BYTES
    assert len(msgspec.json.encode(state)) < PAYLOAD_ERROR_BYTES
    assert len(observed.cordoned) + observed.further_cordoned == MAX_UNAVAILABLE
    assert all(request.pods for request in observed.requests)
    assert not any(isinstance(step, CordonNode) for step in next_plan.steps)


def test_later_observations_list_the_remaining_cordoned_nodes() -> None:
    names = nodes(MAX_UNAVAILABLE, ".eu-central-1.compute.internal")
    requests = {name: ["shop/web-0"] for name in names}
    cordoned, listed = set(names), set()

    for _ in range(len(names)):
        if not cordoned:
            break
        observed = bounded_observation(requests, cordoned)
        listed |= {*observed.cordoned}
        for node in observed.cordoned:
            del requests[node]
            cordoned.remove(node)

    assert listed == set(names)


@pytest.mark.parametrize("suffix", [".eu-central-1.compute.internal", "." + "x" * 247])
def test_the_plan_keeps_the_drain_record_of_an_unlisted_node(suffix: str) -> None:
    names = nodes(MAX_UNAVAILABLE, suffix)
    given_up_record = DrainRecord(began_s=NOW_S - 1_000, given_up_s=NOW_S - 100)
    requests = {name: ["shop/web-0"] for name in names}
    observed = bounded_observation(requests, [])
    assert observed.requests_truncated
    unlisted_nodes = sorted(names)[-20:]
    assert not {*unlisted_nodes} & {request.node for request in observed.requests}
    records = dict.fromkeys([*unlisted_nodes, "deleted"], given_up_record)

    truncated_plan = plan(observed, records, max_unavailable=1)
    assert all(truncated_plan.records[node] == given_up_record for node in unlisted_nodes)
    # Only one node still has a request, so the observation is complete.
    complete_observation = bounded_observation({names[0]: []}, [])
    later_plan = plan(complete_observation, truncated_plan.records, max_unavailable=1)
    assert list(later_plan.records) == [names[0]]

    many_records = dict.fromkeys(sorted(names)[-200:], given_up_record)
    plan_of_many = plan(observed, many_records, max_unavailable=500)
    assert len(msgspec.json.encode(ContinuedDrains(plan_of_many.records))) < PAYLOAD_ERROR_BYTES


def test_a_cordoned_node_whose_request_has_ended_is_listed_and_uncordoned() -> None:
    names = nodes(MAX_UNAVAILABLE, ".eu-central-1.compute.internal")
    ended_node = "zz-last"

    observed = bounded_observation({name: ["shop/web-0"] for name in names}, [*names, ended_node])

    assert ended_node in observed.cordoned
    assert UncordonNode(ended_node) in plan(observed, {}, MAX_UNAVAILABLE).steps


def test_no_node_is_cordoned_if_listed_and_unlisted_nodes_reach_the_limit() -> None:
    requests = (DrainRequest("a"), DrainRequest("b"))

    # One listed node and two unlisted nodes are cordoned.
    next_plan = plan_drains(
        requests,
        cordoned=("a",),
        records={"a": DrainRecord(NOW_S)},
        now_s=NOW_S,
        max_unavailable=3,
        further_cordoned=2,
    )

    assert next_plan.steps == ()


def test_an_observation_lists_pods_of_cordoned_nodes_up_to_a_limit() -> None:
    pods = [f"shop/web-{number}" for number in range(2 * PODS_OBSERVED_MAX)]

    observed = bounded_observation({"a": pods, "b": pods[:1], "c": pods}, ["a", "b"])

    assert observed == DrainObservation(
        (
            DrainRequest("a", tuple(pods[:PODS_OBSERVED_MAX])),
            DrainRequest("b", tuple(pods[:1])),
            DrainRequest("c"),
        ),
        ("a", "b"),
    )
