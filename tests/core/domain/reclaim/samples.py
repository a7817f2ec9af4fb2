"""Small ledgers and clusters for tests of reclaim decisions."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.evolution import Ledger, RevisedClaim
from core.domain.fixed.fixed_address_owners import StatefulSetState
from core.domain.model import Claim, Endpoint, Nic, Owner, pod_holder, stateful_holder
from core.domain.reclaim.decision_table import VerdictContext
from core.domain.reclaim.evidence import (
    OBSERVATION_GAP_S,
    NodeState,
    Observation,
    ObservationSubject,
    PodState,
)
from core.domain.reclaim.reclaim_plan import ReclaimPlan, plan_scan
from core.domain.reclaim.settings import ReclaimSettings
from tests.core.domain.reclaim.scripted_cluster import SCRIPTED_KINDS, moment
from tests.support.cluster_snapshot import ClusterSnapshot, KindListing, ListedObjects

NOW_S = 100_000.0
CONTROLLER_POD = PodState(
    "kube-system", "controller", "uid-controller", node="n1", host_network=True
)
NODES = (NodeState("n1", ready=True), NodeState("n2", ready=False))
DB_OWNER = Owner("StatefulSet", "db", api_version="apps/v1")


def add_endpoint(
    ledger: Ledger,
    name: str,
    uid: str,
    *addresses: str,
    fixed: bool = False,
    container: str = "box",
) -> Endpoint:
    """Add an endpoint in namespace ``shop``, and a claim for each address.

    ``fixed``: the holder is a replica of a StatefulSet, not the Pod with this UID.
    """
    holder = stateful_holder("statefulset", "shop", name) if fixed else pod_holder(uid)
    nics = tuple(
        Nic(f"eth{number}", ipv4=f"{ip}/16", ipv4_pool="p", container=container)
        for number, ip in enumerate(addresses)
    )
    endpoint = Endpoint(
        "shop", name, uid, "n1", holder=holder, owner_kind="Pod", owner_name=name, nics=nics
    )
    ledger.endpoints[endpoint.key] = endpoint
    for address in addresses:
        add_claim(ledger, name, holder, address)
    return endpoint


def add_claim(ledger: Ledger, name: str, holder: str, address: str) -> None:
    ledger.position += 1
    ledger.claims[address] = RevisedClaim(
        Claim(pool="p", holder=holder, namespace="shop", pod=name, event="e"), ledger.position
    )


def cluster(
    *pods: PodState,
    at_s: float = NOW_S,
    stateful_sets: Iterable[StatefulSetState] = (),
    with_controller: bool = True,
    complete: bool = True,
    read_s: float | None = None,
) -> ClusterSnapshot:
    """A cluster that was listed at ``at_s``; ``read_s``: when the claims were read.

    ``with_controller``: list the controller's Pod; reclaim trusts no listing without this Pod.
    """
    all_pods = (*pods, CONTROLLER_POD) if with_controller else pods
    objects = ListedObjects(all_pods, NODES, stateful_sets)
    listings = {kind: KindListing(moment(at_s), complete) for kind in SCRIPTED_KINDS}
    return ClusterSnapshot(objects, listings, moment(at_s if read_s is None else read_s))


def verdict_context(
    facts: ClusterSnapshot, settings: ReclaimSettings = ReclaimSettings(), now_s: float = 0.0
) -> VerdictContext:
    """The context of verdicts at ``now_s``; 0 means the time of the listings."""
    return VerdictContext(facts, settings, now_s or facts.observed_at.unix_s)


def second_plan(
    ledger: Ledger,
    *pods: PodState,
    settings: ReclaimSettings = ReclaimSettings(),
    stateful_sets: Iterable[StatefulSetState] = (),
    gap_s: float = OBSERVATION_GAP_S,
) -> ReclaimPlan:
    """Scan the same objects twice, ``gap_s`` apart; return the second plan."""
    sets = tuple(stateful_sets)
    observations: dict[ObservationSubject, Observation] = {}
    plan = ReclaimPlan((), kept=(), deadlines=(), observations={})
    for at_s in (NOW_S, NOW_S + gap_s):
        plan = plan_scan(
            ledger,
            verdict_context(cluster(*pods, at_s=at_s, stateful_sets=sets), settings),
            before=observations,
        )
        observations = plan.observations
    return plan


def released_addresses(plan: ReclaimPlan) -> set[str]:
    return {address for step in plan.steps for address in step.addresses}
