"""Properties of the plans of reclaim scans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import StatefulSetState
from core.domain.model import Owner, pod_holder
from core.domain.reclaim import reclaim_plan
from core.domain.reclaim.evidence import (
    EVIDENCE_CHARS_MAX,
    OBSERVATION_GAP_S,
    Evidence,
    PodState,
    ReclaimFence,
    observe,
    utc,
)
from core.domain.reclaim.reclaim_plan import CLAIMS_A_STEP_MAX, plan_scan
from core.domain.reclaim.settings import ReclaimSettings
from tests.core.domain.reclaim.samples import (
    DB_OWNER,
    NOW_S,
    add_claim,
    add_endpoint,
    cluster,
    released_addresses,
    second_plan,
    verdict_context,
)
from tests.core.domain.reclaim.scripted_cluster import moment

NAMES = ("web-0", "web-1", "db-0", "db-1", "job")
UIDS = ("1", "2", "3", "4", "5", "6")
IPS = tuple(f"10.6.0.{number}" for number in range(1, 9))
TIMES = (NOW_S - 500, NOW_S - 1, NOW_S + 500)

pods = st.builds(
    PodState,
    namespace=st.just("shop"),
    name=st.sampled_from(NAMES),
    uid=st.sampled_from(UIDS),
    phase=st.sampled_from(("Pending", "Running", "Succeeded", "Failed", "Unknown")),
    node=st.sampled_from(("n1", "n2", "n9", "")),
    ips=st.lists(st.sampled_from(IPS), max_size=2).map(tuple),
    owner=st.sampled_from((None, DB_OWNER, Owner("Job", "j", api_version="batch/v1"))),
    deletion_s=st.sampled_from((None, *TIMES)),
    deletion_grace_s=st.sampled_from((0.0, 30.0)),
    restart_policy=st.sampled_from(("Always", "OnFailure", "Never")),
    reason=st.sampled_from(("", "Evicted")),
    finished_s=st.lists(st.sampled_from(TIMES), max_size=2).map(tuple),
)
pod_lists = st.lists(pods, max_size=5, unique_by=(lambda pod: pod.name, lambda pod: pod.uid))
stateful_set_lists = st.lists(
    st.builds(
        StatefulSetState,
        namespace=st.just("shop"),
        name=st.just("db"),
        replicas=st.integers(0, 2),
        start=st.integers(0, 1),
    ),
    max_size=1,
)
BOOLEAN_SETTINGS = ("on_ready_node", "on_not_ready_node", "stateful_sets", "outdated_endpoints")
settings_variants = st.fixed_dictionaries({name: st.booleans() for name in BOOLEAN_SETTINGS}).map(
    lambda chosen: ReclaimSettings()._replace(**chosen)
)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Endpoints, some of which have lost a claim, and claims without an endpoint."""
    ledger = Ledger()
    free_addresses = list(draw(st.permutations(IPS)))
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        count = draw(st.integers(0, min(2, len(free_addresses))))
        addresses = [free_addresses.pop() for _ in range(count)]
        fixed = name.startswith("db") and draw(st.booleans())
        add_endpoint(ledger, name, draw(st.sampled_from(UIDS)), *addresses, fixed=fixed)
        is_lost = draw(st.booleans())
        if addresses and is_lost:
            del ledger.claims[addresses[0]]
    for address in free_addresses:
        if draw(st.booleans()):
            holder = pod_holder(draw(st.sampled_from(UIDS)))
            add_claim(ledger, draw(st.sampled_from(NAMES)), holder, address)
    return ledger


@given(ledgers(), pod_lists, stateful_set_lists, settings_variants)
def test_no_address_of_a_living_pod_is_released(
    ledger: Ledger,
    listed_pods: list[PodState],
    owners: list[StatefulSetState],
    settings: ReclaimSettings,
) -> None:
    plan = second_plan(ledger, *listed_pods, settings=settings, stateful_sets=owners, gap_s=1_000)

    living_uids = {pod.uid for pod in listed_pods if pod.is_living}
    reported_addresses = {ip for pod in listed_pods if pod.is_living for ip in pod.ips}
    for address in released_addresses(plan):
        claim = ledger.claims[address].claim
        endpoint = ledger.endpoints.get((claim.namespace, claim.pod))
        assert claim.holder.removeprefix("pod/") not in living_uids
        if endpoint is not None and endpoint.holder == claim.holder:
            assert endpoint.uid not in living_uids
        assert address not in reported_addresses


@given(ledgers(), pod_lists, stateful_set_lists, settings_variants)
def test_a_plan_covers_every_claim_and_releases_each_claim_at_most_once(
    ledger: Ledger,
    listed_pods: list[PodState],
    owners: list[StatefulSetState],
    settings: ReclaimSettings,
) -> None:
    plan = second_plan(ledger, *listed_pods, settings=settings, stateful_sets=owners, gap_s=1_000)

    released_claims = [pair for step in plan.steps for pair in step.fence.claims]
    assert len(dict(released_claims)) == len(released_claims)
    for address, revision in released_claims:
        assert ledger.claims[address].revision == revision
    for step in plan.steps:
        assert set(step.addresses) == set(dict(step.fence.claims))
        assert step.fence.matches(ledger.endpoints.get(step.key))
        assert step.evidence.times >= 2
        assert step.evidence.last_s - step.evidence.first_s >= OBSERVATION_GAP_S
    kept_addresses = {address for claims in plan.kept for address in claims.addresses}
    assert (
        ledger.claims.keys() == (kept_addresses | released_addresses(plan)) & ledger.claims.keys()
    )
    assert all(claims.why for claims in plan.kept)


@given(ledgers(), pod_lists, stateful_set_lists)
def test_plans_for_the_same_facts_are_equal(
    ledger: Ledger, listed_pods: list[PodState], owners: list[StatefulSetState]
) -> None:
    facts = cluster(*listed_pods, stateful_sets=owners)
    plan = plan_scan(ledger, verdict_context(facts), before={})

    assert plan_scan(ledger, verdict_context(facts), before={}) == plan
    repeated_plan = plan_scan(ledger, verdict_context(facts), before=plan.observations)
    assert repeated_plan == plan
    assert not repeated_plan.steps


@given(ledgers(), pod_lists, st.sampled_from(("empty", "partial", "stale")))
def test_an_untrusted_listing_releases_nothing(
    ledger: Ledger, listed_pods: list[PodState], fault: str
) -> None:
    observations = plan_scan(ledger, verdict_context(cluster(*listed_pods)), before={}).observations
    for number in (1, 2, 3):
        at_s = NOW_S + 1_000 * number
        facts = {
            "empty": cluster(at_s=at_s, with_controller=False),
            "partial": cluster(*listed_pods[:1], at_s=at_s, complete=False),
            "stale": cluster(*listed_pods, at_s=at_s, read_s=at_s + 1),
        }[fault]
        plan = plan_scan(ledger, verdict_context(facts), before=observations)
        observations = plan.observations

        assert plan.steps == ()
        assert plan.observations == {}


def test_a_release_needs_two_observations_that_are_the_observation_gap_apart() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IPS[0])

    first = plan_scan(ledger, verdict_context(cluster()), before={})
    too_soon = second_plan(ledger, gap_s=OBSERVATION_GAP_S - 0.001)

    assert first.steps == too_soon.steps == ()
    assert first.next_scan_s == NOW_S + OBSERVATION_GAP_S
    assert released_addresses(second_plan(ledger)) == {IPS[0]}


def test_a_change_between_two_observations_restarts_the_observation_gap() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IPS[0])
    observations = plan_scan(ledger, verdict_context(cluster()), before={}).observations
    add_endpoint(ledger, "web-0", "1", IPS[0], container="a new sandbox")

    plan = plan_scan(ledger, verdict_context(cluster(at_s=NOW_S + 60)), before=observations)

    assert plan.steps == ()


def test_a_clock_that_runs_backwards_restarts_the_observation_gap() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IPS[0])
    observations = plan_scan(ledger, verdict_context(cluster()), before={}).observations
    an_hour_back_s = NOW_S - 3_600

    plan = plan_scan(ledger, verdict_context(cluster(at_s=an_hour_back_s)), before=observations)

    assert plan.steps == ()
    assert plan.next_scan_s == an_hour_back_s + OBSERVATION_GAP_S


def test_an_incomplete_listing_releases_only_claims_older_than_the_endpoint() -> None:
    ledger = Ledger()
    add_claim(ledger, "web-0", "pod/old", IPS[0])
    add_endpoint(ledger, "web-0", "new", IPS[1])
    add_claim(ledger, "web-0", "pod/newer", IPS[2])
    observations = plan_scan(
        ledger, verdict_context(cluster(complete=False)), before={}
    ).observations

    plan = plan_scan(
        ledger, verdict_context(cluster(at_s=NOW_S + 10, complete=False)), before=observations
    )

    assert released_addresses(plan) == {IPS[0]}


def test_claims_without_an_endpoint_are_released_in_steps_of_bounded_size() -> None:
    ledger = Ledger()
    count = 2 * CLAIMS_A_STEP_MAX + 1
    for number in range(count):
        add_claim(ledger, "ghost", "pod/9", f"10.7.0.{number}")

    plan = second_plan(ledger)

    assert [len(step.addresses) for step in plan.steps] == [CLAIMS_A_STEP_MAX] * 2 + [1]
    assert len(released_addresses(plan)) == count


def test_claims_whose_endpoint_cannot_be_decoded_are_kept() -> None:
    ledger = Ledger()
    add_claim(ledger, "web-0", "pod/1", IPS[0])
    add_claim(ledger, "ghost", "pod/2", IPS[1])
    ledger.undecodable.add("endpoint/shop/web-0")

    assert released_addresses(second_plan(ledger)) == {IPS[1]}


def test_an_endpoint_is_kept_if_its_claim_cannot_be_decoded() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IPS[0])
    add_endpoint(ledger, "web-1", "2", IPS[1])
    del ledger.claims[IPS[0]], ledger.claims[IPS[1]]
    ledger.undecodable.add("ip/4/" + "0" * 24 + "0a060001")  # the key of IPS[0]

    assert [step.key for step in second_plan(ledger).steps] == [("shop", "web-1")]


def test_a_full_plan_keeps_further_claims_and_reports_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = Ledger()
    for number, ip in enumerate(IPS[:3]):
        add_endpoint(ledger, f"web-{number}", str(number), ip)
    monkeypatch.setattr(reclaim_plan, "STEPS_MAX", 2)

    plan = second_plan(ledger)

    assert len(plan.steps) == 2
    assert [claims.why for claims in plan.kept] == [reclaim_plan.PLAN_FULL]


def test_evidence_is_printed_as_a_sentence_of_bounded_length() -> None:
    single = Evidence("deleted", "it was deleted", "event", first_s=0.0, last_s=0.0, times=1)
    repeated = Evidence("pod-gone", "x" * 9_999, "listing", first_s=0.0, last_s=60.0, times=3)

    assert str(single) == "deleted: it was deleted (event, 1970-01-01 00:00:00Z)"
    assert "seen 3 times from 1970-01-01 00:00:00Z to 1970-01-01 00:01:00Z" in str(repeated)
    assert len(str(repeated)) < EVIDENCE_CHARS_MAX + 100
    assert utc(1e300) == "1e+300 s"


def test_only_a_later_listing_with_the_same_reason_adds_an_observation() -> None:
    fence = ReclaimFence("1", "pod/1", containers=(), claims=())
    observation = observe(None, "pod-gone", fence, moment(5))

    assert observe(observation, "pod-gone", fence, moment(5)) == observation
    assert observe(observation, "uid-changed", fence, moment(9)).times == 1
    assert observe(observation, "pod-gone", fence, moment(9)).times == 2
    assert observe(observation, "pod-gone", fence, moment(4)).times == 1


def test_an_observation_by_another_observer_restarts_the_count() -> None:
    fence = ReclaimFence("1", "pod/1", containers=(), claims=())
    observation = observe(None, "pod-gone", fence, moment(5))

    other_observation = observe(observation, "pod-gone", fence, moment(3_600, "another controller"))

    assert (other_observation.times, other_observation.span_s) == (1, 0.0)
    assert not other_observation.is_enough(OBSERVATION_GAP_S)
