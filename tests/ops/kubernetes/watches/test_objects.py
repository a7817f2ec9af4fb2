"""Objects of an API server become facts about Pods, Nodes, owners and applications."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.fixed.fixed_address_owners import StatefulSetState, VmiState, VmState
from core.domain.model import Owner, Scale
from core.domain.reclaim.evidence import NodeState, PodState
from core.kubernetes.workloads.applications import (
    application_of,
    stateful_set_state,
    vm_state,
    vmi_state,
)
from core.kubernetes.workloads.pods import node_state, pod_state

NOON_S = 1_767_268_800.0
NOON = "2026-01-01T12:00:00Z"
SUBNET = '{"ipv4": ["shop-v4"]}'


def object_of(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "uid": f"uid-{name}"} | metadata}


def controlled_by(kind: str, name: str, api_version: str) -> dict[str, Any]:
    owner = {"kind": kind, "name": name, "apiVersion": api_version, "uid": f"uid-{name}"}
    other_owner = {"kind": "Backup", "name": "b", "apiVersion": "v1", "uid": "u"}
    return {"ownerReferences": [other_owner, owner | {"controller": True}]}


def terminated_container(at: str | None) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": 0, "finishedAt": at}}}


def test_a_running_pod_has_its_node_its_addresses_and_its_controller() -> None:
    manifest = object_of("web-0", **controlled_by("ReplicaSet", "web", "apps/v1"))
    manifest["spec"] = {"nodeName": "n1", "terminationGracePeriodSeconds": 5, "hostNetwork": True}
    manifest["status"] = {
        "phase": "Running",
        "podIP": "10.6.0.9",
        "podIPs": [{"ip": "10.6.0.9"}, {"ip": "FD00:6:0::9"}, {"ip": "nonsense"}],
    }

    assert pod_state(manifest) == PodState(
        "shop",
        "web-0",
        "uid-web-0",
        "Running",
        "n1",
        ("10.6.0.9", "fd00:6::9"),
        Owner("ReplicaSet", "web", "shop", "apps/v1", "uid-web"),
        grace_s=5.0,
        host_network=True,
    )


def test_a_pod_without_a_status_is_pending() -> None:
    assert pod_state(object_of("new")) == PodState("shop", "new", "uid-new", "Pending")


def test_an_undefined_phase_becomes_unknown() -> None:
    assert pod_state(object_of("odd") | {"status": {"phase": "Dreaming"}}).phase == "Unknown"


def test_a_deleted_pod_has_the_time_of_its_deletion_and_its_grace_period() -> None:
    state = pod_state(object_of("old", deletionTimestamp=NOON, deletionGracePeriodSeconds=30))

    assert (state.deletion_s, state.deletion_grace_s) == (NOON_S, 30.0)
    assert not state.is_living


def test_a_finished_pod_has_the_end_time_of_each_container() -> None:
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "initContainerStatuses": [terminated_container("2026-01-01T11:59:00Z")],
        "containerStatuses": [
            terminated_container(NOON),
            terminated_container(None),
            {"state": {"running": {}}},
            {},
        ],
    }

    state = pod_state(object_of("done") | {"status": status, "spec": {"restartPolicy": "Never"}})

    assert state.finished_s == (NOON_S - 60, NOON_S)
    assert (state.phase, state.reason, state.restart_policy) == ("Failed", "Evicted", "Never")


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([{"type": "Ready", "status": "True"}], True),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "MemoryPressure", "status": "True"}], False),
        (None, False),
    ],
)
def test_a_node_is_ready_if_its_ready_condition_is_true(conditions: object, *, ready: bool) -> None:
    manifest = {"metadata": {"name": "n1"}, "status": {"conditions": conditions}}

    assert node_state(manifest) == NodeState("n1", ready)


def test_a_stateful_set_has_a_replica_count_and_a_first_ordinal() -> None:
    without_ordinal = object_of("db") | {"spec": {"replicas": 3}}
    with_first_ordinal = object_of("db") | {"spec": {"replicas": 2, "ordinals": {"start": 5}}}

    assert stateful_set_state(without_ordinal) == StatefulSetState("shop", "db", 3)
    assert stateful_set_state(with_first_ordinal) == StatefulSetState("shop", "db", 2, 5)


def test_states_of_a_vm_and_its_instance_show_deletion_and_owner() -> None:
    deleted = object_of("vm", deletionTimestamp=NOON)
    with_vm = object_of("vm", **controlled_by("VirtualMachine", "vm", "kubevirt.io/v1"))

    assert vmi_state(deleted) == VmiState("shop", "vm", deleting=True, of_vm=False)
    assert vmi_state(with_vm) == VmiState("shop", "vm")
    assert vm_state(deleted) == VmState("shop", "vm", deleting=True)


def template(**spec: object) -> dict[str, Any]:
    annotations = {"ipam.spidernet.io/subnet": SUBNET, "prometheus.io/scrape": "true"}
    return {"template": {"metadata": {"annotations": annotations}, "spec": spec}}


@pytest.mark.parametrize(
    ("kind", "api_version", "object_", "scale"),
    [
        ("Deployment", "apps/v1", {"spec": {"replicas": 3} | template()}, Scale(3)),
        ("StatefulSet", "apps/v1", {"spec": {"replicas": 0} | template()}, Scale(0)),
        (
            "DaemonSet",
            "apps/v1",
            {"spec": template(), "status": {"desiredNumberScheduled": 7}},
            Scale(desired=7),
        ),
        (
            "Job",
            "batch/v1",
            {"spec": {"completions": 5, "parallelism": 2} | template()},
            Scale(completions=5, parallelism=2),
        ),
        (
            "CronJob",
            "batch/v1",
            {"spec": {"jobTemplate": {"spec": {"parallelism": 4} | template()}}},
            Scale(parallelism=4),
        ),
    ],
)
def test_an_application_has_its_scale_and_the_spiderpool_annotations(
    kind: str, api_version: str, object_: dict[str, Any], scale: Scale
) -> None:
    application = application_of(kind, object_of("web") | object_)

    assert application == Application(
        ApplicationKey(api_version, kind, "shop", "web"),
        "uid-web",
        {"ipam.spidernet.io/subnet": SUBNET},
        scale,
    )


def test_an_application_has_its_controller_and_host_network() -> None:
    manifest = object_of("web-1", **controlled_by("Deployment", "web", "apps/v1"))
    manifest["spec"] = {"replicas": 1} | template(hostNetwork=True)

    application = application_of("ReplicaSet", manifest)

    assert application.controller == ("apps/v1", "Deployment")
    assert application.host_network
