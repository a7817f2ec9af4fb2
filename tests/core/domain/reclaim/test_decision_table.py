"""The decision table of a scan, and the validity rules of fixed addresses.

See docs/reference/reclaim-rules.md, "Scan", and docs/reference/fixed-address-rules.md, "Wanted
addresses".
"""

from __future__ import annotations

import pytest

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import StatefulSetState, VmiState, VmState
from core.domain.fixed.owner_validity import validity_of
from core.domain.model import Owner
from core.domain.reclaim.evidence import PodState
from core.domain.reclaim.settings import ReclaimSettings
from tests.core.domain.reclaim.samples import (
    DB_OWNER,
    NOW_S,
    add_endpoint,
    cluster,
    released_addresses,
    second_plan,
)
from tests.core.domain.reclaim.scripted_cluster import SCRIPTED_KINDS, moment
from tests.support.cluster_snapshot import ClusterSnapshot, KindListing, ListedObjects

# In the sample cluster, node n1 is ready, n2 is not ready, and n9 does not exist.
IP = "10.6.0.1"
ONE_REPLICA = StatefulSetState("shop", "db", replicas=1)
NO_REPLICA = StatefulSetState("shop", "db", replicas=0)
POD = PodState("shop", "web-0", "1", node="n1", ips=(IP,))
REPLICA = PodState("shop", "db-0", "1", node="n1", ips=(IP,), owner=DB_OWNER)
PAST = NOW_S - 1_000
SOON = NOW_S + 1_000

# Each row: the Pod web-0, and whether the address of its endpoint is released.
STATELESS = [
    (POD, False),
    (POD._replace(phase="Pending", ips=()), False),
    (POD._replace(phase="Unknown", ips=()), False),
    (POD._replace(ips=()), False),
    (POD._replace(phase="Succeeded"), False),
    (POD._replace(phase="Succeeded", finished_s=(PAST, NOW_S - 31)), True),
    (POD._replace(phase="Succeeded", finished_s=(PAST, NOW_S - 5)), False),
    (POD._replace(phase="Failed", reason="Evicted", finished_s=(PAST,)), True),
    (POD._replace(phase="Failed", restart_policy="Never", finished_s=(PAST,)), True),
    (POD._replace(phase="Failed", finished_s=(PAST,), node="n9"), False),
    (POD._replace(deletion_s=SOON), False),
    (POD._replace(deletion_s=SOON, ips=()), True),
    (POD._replace(deletion_s=PAST, deletion_grace_s=30), True),
    (POD._replace(deletion_s=PAST, deletion_grace_s=30, node="n2"), True),
    (POD._replace(deletion_s=PAST, deletion_grace_s=30, node="n9"), False),
    (POD._replace(deletion_s=NOW_S - 15, deletion_grace_s=30), False),
    (POD._replace(phase="Succeeded", deletion_s=PAST, deletion_grace_s=30), True),
    (POD._replace(uid="2", phase="Pending", ips=()), True),
    (POD._replace(uid="2", node="n9", ips=("10.6.0.2",)), True),
    (POD._replace(uid="2"), False),
]


@pytest.mark.parametrize(("pod", "is_released"), STATELESS)
def test_the_state_of_a_stateless_pod_decides_whether_its_address_is_released(
    pod: PodState, *, is_released: bool
) -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)

    plan = second_plan(ledger, pod)

    assert released_addresses(plan) == ({IP} if is_released else set())
    assert len(plan.steps) + len(plan.kept) == 1


# Each row: the replica db-0, its StatefulSet, and whether the replica loses its address.
REPLICAS = [
    (REPLICA, NO_REPLICA, False),
    (REPLICA._replace(ips=()), NO_REPLICA, False),
    (REPLICA._replace(phase="Failed", reason="Evicted"), ONE_REPLICA, False),
    (REPLICA._replace(phase="Failed", reason="Evicted"), NO_REPLICA, True),
    (REPLICA._replace(deletion_s=PAST), ONE_REPLICA, False),
    (REPLICA._replace(deletion_s=PAST), NO_REPLICA, False),
    (REPLICA._replace(deletion_s=SOON, ips=()), ONE_REPLICA, False),
    (REPLICA._replace(deletion_s=SOON, ips=()), NO_REPLICA, True),
    (REPLICA._replace(deletion_s=SOON), NO_REPLICA, False),
    (REPLICA._replace(uid="2", phase="Pending", ips=()), ONE_REPLICA, False),
    (REPLICA._replace(uid="2", phase="Pending", ips=()), NO_REPLICA, True),
    (REPLICA._replace(uid="2", ips=("192.168.0.1",)), ONE_REPLICA, True),
    (REPLICA._replace(uid="2"), ONE_REPLICA, False),
    (REPLICA._replace(uid="2", owner=None, ips=()), ONE_REPLICA, False),
    (REPLICA._replace(uid="2", owner=None, ips=()), NO_REPLICA, True),
]


@pytest.mark.parametrize(("pod", "owner", "is_released"), REPLICAS)
def test_the_states_of_a_replica_and_its_owner_decide_whether_the_address_is_released(
    pod: PodState, owner: StatefulSetState, *, is_released: bool
) -> None:
    ledger = Ledger()
    add_endpoint(ledger, "db-0", "1", IP, fixed=True)

    plan = second_plan(ledger, pod, stateful_sets=[owner])

    assert released_addresses(plan) == ({IP} if is_released else set())


def test_a_claim_without_pod_and_endpoint_is_kept_while_the_replica_is_expected() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "db-0", "1", IP, fixed=True)
    ledger.endpoints.clear()

    assert released_addresses(second_plan(ledger, stateful_sets=[ONE_REPLICA])) == set()
    assert released_addresses(second_plan(ledger, stateful_sets=[NO_REPLICA])) == {IP}


def test_claims_of_a_living_pod_are_kept_although_the_endpoint_names_an_older_pod() -> None:
    ledger = Ledger()
    endpoint = add_endpoint(ledger, "web-0", "2", IP)
    ledger.endpoints[endpoint.key] = endpoint._replace(uid="1")

    plan = second_plan(ledger, POD._replace(uid="2", phase="Pending", ips=()))

    assert plan.steps == ()
    assert [claims.why for claims in plan.kept] == ["Pod shop/web-0 of UID 2 is living"]


def test_the_extra_delay_postpones_the_release() -> None:
    ledger = Ledger()
    add_endpoint(ledger, "web-0", "1", IP)
    pod = POD._replace(deletion_s=PAST, deletion_grace_s=30)

    assert (
        released_addresses(second_plan(ledger, pod, settings=ReclaimSettings(extra_delay_s=5_000)))
        == set()
    )


@pytest.mark.parametrize(
    ("name", "replicas", "start", "state"),
    [
        ("db-0", 1, 0, "valid"),
        ("db-1", 1, 0, "invalid"),
        ("db-0", 0, 0, "invalid"),
        ("db-4", 2, 5, "invalid"),
        ("db-5", 2, 5, "valid"),
        ("db-6", 2, 5, "valid"),
        ("db-7", 2, 5, "invalid"),
        ("db", 1, 0, "invalid"),
        ("db-x", 1, 0, "invalid"),
        ("db-" + "9" * 5_000, 1, 0, "invalid"),
        ("other-0", 1, 0, "invalid"),
    ],
)
def test_the_name_and_ordinal_of_a_replica_decide_whether_its_address_is_valid(
    name: str, replicas: int, start: int, state: str
) -> None:
    facts = cluster(stateful_sets=[StatefulSetState("shop", "db", replicas=replicas, start=start)])

    assert validity_of("statefulset", "shop", name, facts).state == state


@pytest.mark.parametrize(
    ("instance", "machine", "state"),
    [
        (VmiState("shop", "a"), None, "valid"),
        (VmiState("shop", "a", deleting=True), VmState("shop", "a"), "valid"),
        (VmiState("shop", "a", deleting=True), VmState("shop", "a", deleting=True), "invalid"),
        (VmiState("shop", "a", deleting=True), None, "invalid"),
        (VmiState("shop", "a", deleting=True, of_vm=False), VmState("shop", "a"), "invalid"),
        (None, VmState("shop", "a"), "valid"),
        (None, VmState("shop", "a", deleting=True), "invalid"),
        (None, None, "invalid"),
    ],
)
def test_the_states_of_a_vm_and_its_instance_decide_whether_its_address_is_valid(
    instance: VmiState | None, machine: VmState | None, state: str
) -> None:
    objects = ListedObjects(vmis=[instance] if instance else [], vms=[machine] if machine else [])
    facts = ClusterSnapshot(
        objects, {kind: KindListing(moment(1.0)) for kind in SCRIPTED_KINDS}, moment(1.0)
    )

    assert validity_of("vm", "shop", "a", facts).state == state


def test_the_validity_of_an_address_is_unknown_if_no_owners_were_listed() -> None:
    facts = ClusterSnapshot(ListedObjects(), {}, moment(1.0))

    assert validity_of("statefulset", "shop", "db-0", facts).state == "unknown"
    assert validity_of("vm", "shop", "a", facts).state == "unknown"


def test_only_apps_v1_stateful_sets_and_kubevirt_instances_have_fixed_addresses() -> None:
    settings = ReclaimSettings()
    kruise = Owner("StatefulSet", "db", api_version="apps.kruise.io/v1beta1")
    vmi = Owner("VirtualMachineInstance", "a", api_version="kubevirt.io/v1")

    assert REPLICA.fixed(settings) == "statefulset"
    assert REPLICA._replace(owner=kruise).fixed(settings) is None
    assert REPLICA._replace(owner=vmi).fixed(settings) == "vm"
    assert REPLICA._replace(owner=vmi).endpoint_key(settings) == ("shop", "a")
    off = ReclaimSettings(stateful_sets=False, vms=False)
    assert REPLICA.fixed(off) is None
    assert REPLICA._replace(owner=vmi).endpoint_key(off) == ("shop", "db-0")
