"""The Pods that a scan for leaked addresses reads from the API server.

A Pod that is missing from the cache is read before its addresses are released.
"""

from __future__ import annotations

from typing import Any

from core.domain.evolution import Ledger, RevisedClaim
from core.domain.fixed.fixed_address_owners import (
    FixedSettings,
    KnownOwners,
    MissingOwner,
    StatefulSetState,
)
from core.domain.model import Claim, Endpoint, Nic, pod_holder
from core.domain.reclaim.evidence import Moment, PodState
from core.kubernetes.informer import ObjectKey
from ops.kubernetes.watches.api_server_lookup import ApiServerLookup
from ops.kubernetes.watches.suspects import PodLookups, WatchedObjects, plan_lookups

FIXED_SETTINGS = FixedSettings()
NO_OWNERS = KnownOwners({}, {}, {})
WEB = ("shop", "web-0")


def endpoint(name: str, uid: str, address: str, holder: str = "") -> Endpoint:
    nic = Nic("eth0", f"{address}/16", "main")
    return Endpoint(
        "shop",
        name,
        uid,
        node="n1",
        holder=holder or pod_holder(uid),
        owner_kind="Pod",
        owner_name=name,
        nics=(nic,),
    )


def ledger(*endpoints: Endpoint, claims_without_endpoint: dict[str, Claim] | None = None) -> Ledger:
    stored = Ledger()
    for item in endpoints:
        stored.endpoints[item.key] = item
        for address, pool in item.addresses():
            claim = Claim(pool, item.holder, *item.key, event="e")
            stored.claims[address] = RevisedClaim(claim, 1)
    for address, claim in (claims_without_endpoint or {}).items():
        stored.claims[address] = RevisedClaim(claim, 1)
    return stored


def lookups_of(
    stored: Ledger, *pods: PodState, owners: KnownOwners = NO_OWNERS, read_all: bool = False
) -> PodLookups:
    named = {(pod.namespace, pod.name): pod for pod in pods}
    by_uid = {pod.uid: pod for pod in pods}
    watched = WatchedObjects(named.get, by_uid.get, owners)
    return plan_lookups(stored, FIXED_SETTINGS, watched, read_all=read_all)


def pod(name: str, uid: str, **fields: object) -> PodState:
    return PodState("shop", name, uid)._replace(**fields)  # type: ignore[arg-type]


def test_a_living_cached_pod_with_only_its_own_claims_is_not_read() -> None:
    living_pod = pod("web-0", "u1")

    lookups = lookups_of(ledger(endpoint("web-0", "u1", "10.6.0.1")), living_pod)

    assert lookups == PodLookups(suspects={}, pods=frozenset(), answers={WEB: living_pod})


def test_a_living_cached_pod_is_read_if_read_all_is_set() -> None:
    lookups = lookups_of(
        ledger(endpoint("web-0", "u1", "10.6.0.1")), pod("web-0", "u1"), read_all=True
    )

    assert lookups.pods == {WEB}
    assert not lookups.answers


def test_a_pod_that_is_uncached_or_replaced_or_ending_is_read() -> None:
    stored = ledger(
        endpoint("web-0", "u1", "10.6.0.1"),
        endpoint("web-1", "u2", "10.6.0.2"),
        endpoint("web-2", "u3", "10.6.0.3"),
    )

    lookups = lookups_of(stored, pod("web-1", "other"), pod("web-2", "u3", deletion_s=1.0))

    assert lookups.pods == {WEB, ("shop", "web-1"), ("shop", "web-2")}


def test_the_pod_of_a_claim_without_an_endpoint_is_read() -> None:
    claims_without_endpoint = {"10.6.0.9": Claim("main", pod_holder("u9"), "shop", "web-0", "e")}

    lookups = lookups_of(
        ledger(
            endpoint("web-0", "u1", "10.6.0.1"), claims_without_endpoint=claims_without_endpoint
        ),
        pod("web-0", "u1"),
    )

    assert lookups.pods == {WEB}


def test_a_stateful_set_replica_within_the_replica_count_is_not_read() -> None:
    stored = ledger(endpoint("db-0", "u1", "10.6.0.1", "statefulset/shop/db-0"))
    owners = KnownOwners({("shop", "db"): StatefulSetState("shop", "db", 1)}, {}, {})

    lookups = lookups_of(stored, owners=owners)

    answer = lookups.answers["shop", "db-0"]
    assert isinstance(answer, MissingOwner)
    assert not answer.certain
    assert not lookups.pods | lookups.owners()


def test_a_stateful_set_replica_beyond_the_replica_count_is_read() -> None:
    stored = ledger(endpoint("db-1", "u1", "10.6.0.1", "statefulset/shop/db-1"))
    owners = KnownOwners({("shop", "db"): StatefulSetState("shop", "db", 1)}, {}, {})

    lookups = lookups_of(stored, owners=owners)

    assert lookups.pods == {("shop", "db-1")}
    assert lookups.owners() == {("statefulset", ("shop", "db-1"))}


def test_the_endpoint_pod_and_the_cached_launcher_of_a_vm_are_read() -> None:
    stored = ledger(endpoint("vm-a", "u1", "10.6.0.1", "vm/shop/vm-a"))

    lookups = lookups_of(stored, pod("virt-launcher-vm-a-x", "u1"), read_all=True)

    assert lookups.pods == {("shop", "vm-a"), ("shop", "virt-launcher-vm-a-x")}


class FakePodTable:
    def __init__(self, *pods: PodState) -> None:
        self._pods = pods

    def of_uid(self, uid: str) -> list[PodState]:
        return [pod for pod in self._pods if pod.uid == uid]

    def pods_reporting(self, address: str) -> list[PodState]:
        return [pod for pod in self._pods if address in pod.ips]

    def launchers(self, instance: ObjectKey) -> list[PodState]:
        return list(self._pods)


def facts_with_answer(answer: PodState | MissingOwner, *cached_pods: PodState) -> ApiServerLookup:
    stored = ledger(endpoint("web-0", "u1", "10.6.0.1"))
    facts = ApiServerLookup(Moment(0.0), {WEB: answer}, NO_OWNERS, {})
    table: Any = FakePodTable(*cached_pods)
    facts.add_watched_pods(stored, lookups_of(stored, read_all=True).suspects, table)
    return facts


def test_a_certain_answer_of_the_api_server_replaces_the_cached_pod() -> None:
    cached_pod = pod("web-0", "u1", ips=("10.6.0.1",))
    facts_of_missing = facts_with_answer(MissingOwner(certain=True, why="gone"), cached_pod)
    facts_of_ending = facts_with_answer(cached_pod._replace(deletion_s=5.0), cached_pod)
    facts_of_newer = facts_with_answer(pod("web-0", "u2"), cached_pod)

    assert facts_of_missing.pod_of_uid("u1") is None
    assert facts_of_missing.reporter("10.6.0.1") is None
    assert facts_of_missing.launcher("shop", "web-0") is None
    assert facts_of_ending.pod_of_uid("u1") == cached_pod._replace(deletion_s=5.0)
    assert facts_of_ending.reporter("10.6.0.1") is None
    assert facts_of_newer.pod_of_uid("u1") is None


def test_the_cached_pod_is_used_if_the_api_server_is_unavailable() -> None:
    cached_pod = pod("web-0", "u1", ips=("10.6.0.1",))
    facts = facts_with_answer(MissingOwner(certain=False, why="unavailable"), cached_pod)

    assert facts.pod_of_uid("u1") == cached_pod
    assert facts.reporter("10.6.0.1") == cached_pod


def test_the_absence_of_objects_that_were_not_read_is_uncertain() -> None:
    facts = facts_with_answer(MissingOwner(certain=True, why="gone"))

    for answer in (
        facts.pod("shop", "other"),
        facts.node("n9"),
        facts.stateful_set("shop", "db"),
        facts.vmi("shop", "vm"),
        facts.vm("shop", "vm"),
    ):
        assert isinstance(answer, MissingOwner)
        assert not answer.certain
