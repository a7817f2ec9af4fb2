"""Cases of Spiderpool about the CIDRs that a SpiderCoordinator detects, on a real API server.

An id such as V00003 is a case in docs/contributing/compatibility.md. The fixture ``coordinators``
writes the status; it reads CNI configurations from ``tmp_path``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.kubernetes.coordinator_status import Coordinators
from tests.kubernetes.networks.test_coordinator_status import (
    COORDINATOR_KIND,
    coordinators,
    create_config_map,
    until_phase,
)
from tests.kubernetes.objects import Object, coordinator, create, get, replace
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import ApiServer

__all__ = ("coordinators",)
"""A fixture that pytest must find in this module."""

CALICO_POOLS = "/apis/crd.projectcalico.org/v1/ippools"
CILIUM_POOLS = "/apis/cilium.io/v2alpha1/ciliumpodippools"
SYSTEM_PODS = "/api/v1/namespaces/kube-system/pods"
KUBEADM_CONFIGURATION = "networking:\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.96.0.0/12\n"


async def define_kind(server: ApiServer, group: str, version: str, kind: str, path: str) -> None:
    """Define a kind of another project without a schema, and wait until ``path`` is served.

    The kind stays defined, because other tests on this server use it.
    """
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [served | {"schema": {"openAPIV3Schema": schema}}],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await asyncio.to_thread(server.request, "POST", crds, body)
    await asyncio.to_thread(server.wait_served, path)


async def create_object(server: ApiServer, path: str, body: Object) -> None:
    answer = await asyncio.to_thread(server.request, "POST", path, body)
    assert answer.status == 201, answer.message


async def test_the_pod_cidrs_of_calico_are_its_enabled_pools(
    coordinators: Coordinators, server: ApiServer
) -> None:
    """V00003, V00010. The Service CIDR comes from the API server's ServiceCIDR object."""
    await define_kind(server, "crd.projectcalico.org", "v1", "IPPool", CALICO_POOLS)
    type_meta = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool"}
    for name, spec in (
        ("v4", {"cidr": "10.20.0.0/16"}),
        ("off", {"cidr": "10.21.0.0/16", "disabled": True}),
    ):
        await create_object(
            server, CALICO_POOLS, type_meta | {"metadata": {"name": name}, "spec": spec}
        )
    create(server, coordinator(podCIDRType="calico"))

    current = await until_phase(server, "Synced")

    await asyncio.to_thread(server.request, "DELETE", CALICO_POOLS)
    assert current["overlayPodCIDR"] == ["10.20.0.0/16"]
    assert current["serviceCIDR"] == ["10.96.0.0/16"]


@pytest.mark.parametrize("mode", ["cluster-pool", "kubernetes", "multi-pool"])
async def test_the_ipam_mode_of_cilium_selects_the_source_of_pod_cidrs(
    coordinators: Coordinators, server: ApiServer, mode: str
) -> None:
    """V00004."""
    data = {"ipam": mode, "cluster-pool-ipv4-cidr": "10.11.0.0/16"}
    await create_config_map(server, "cilium-config", **data)
    await create_config_map(server, "kubeadm-config", ClusterConfiguration=KUBEADM_CONFIGURATION)
    if mode == "multi-pool":
        await define_kind(server, "cilium.io", "v2alpha1", "CiliumPodIPPool", CILIUM_POOLS)
        type_meta = {"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumPodIPPool"}
        spec = {"ipv4": {"cidrs": ["10.12.0.0/16"]}}
        await create_object(
            server, CILIUM_POOLS, type_meta | {"metadata": {"name": "a"}, "spec": spec}
        )
    create(server, coordinator(podCIDRType="cilium"))

    current = await until_phase(server, "Synced")

    if mode == "multi-pool":
        await asyncio.to_thread(server.request, "DELETE", CILIUM_POOLS)
    second_octet = {"cluster-pool": "11", "kubernetes": "244", "multi-pool": "12"}
    assert current["overlayPodCIDR"] == [f"10.{second_octet[mode]}.0.0/16"]


@pytest.mark.parametrize("cidr_type", ["auto", "none"])
async def test_the_status_has_no_pod_cidrs_without_an_overlay(
    coordinators: Coordinators, server: ApiServer, cidr_type: str
) -> None:
    """V00002, V00005."""
    create(server, coordinator(podCIDRType=cidr_type))

    assert (await until_phase(server, "Synced")).get("overlayPodCIDR", []) == []


async def test_flannels_cni_configuration_selects_the_pod_cidrs_of_kubeadm(
    coordinators: Coordinators, server: ApiServer, tmp_path: Path
) -> None:
    """V00001."""
    (tmp_path / "10-flannel.conflist").write_text('{"name": "flannel"}')
    await create_config_map(server, "kubeadm-config", ClusterConfiguration=KUBEADM_CONFIGURATION)
    create(server, coordinator())

    assert (await until_phase(server, "Synced"))["overlayPodCIDR"] == ["10.244.0.0/16"]


async def test_the_controller_managers_flags_are_used_without_a_kubeadm_config(
    coordinators: Coordinators, server: ApiServer
) -> None:
    """V00009."""
    command = ["kube-controller-manager", "--cluster-cidr=10.30.0.0/16"]
    flags = {"command": command, "args": ["--service-cluster-ip-range=10.31.0.0/16"]}
    container = {"name": "main", "image": "none"} | flags
    body = {
        "metadata": {"name": "kcm", "labels": {"component": "kube-controller-manager"}},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    await create_object(server, SYSTEM_PODS, body)
    create(server, coordinator(podCIDRType="cluster"))

    current = await until_phase(server, "Synced")
    manager_pod = f"{SYSTEM_PODS}/kcm?gracePeriodSeconds=0"
    await asyncio.to_thread(server.request, "DELETE", manager_pod)

    assert current["overlayPodCIDR"] == ["10.30.0.0/16"]


async def test_the_status_loses_cidrs_while_not_ready_and_regains_them_when_synced(
    coordinators: Coordinators, server: ApiServer
) -> None:
    """V00006, V00008, V00011. The type ``cilium`` is NotReady without Cilium's ConfigMap."""
    await create_config_map(server, "kubeadm-config", ClusterConfiguration=KUBEADM_CONFIGURATION)
    create(server, coordinator(podCIDRType="cluster"))
    first = await until_phase(server, "Synced")
    replace(server, coordinator(podCIDRType="cilium"))
    not_ready = await until_phase(server, "NotReady")
    replace(server, coordinator(podCIDRType="cluster"))

    again = await until_phase(server, "Synced")

    assert (not_ready["overlayPodCIDR"], not_ready["serviceCIDR"]) == ([], [])
    assert first == again
    assert again["overlayPodCIDR"] == ["10.244.0.0/16"]


async def test_an_overlay_installed_later_is_detected(
    coordinators: Coordinators, server: ApiServer, tmp_path: Path
) -> None:
    """V00001, V00002."""
    await create_config_map(server, "kubeadm-config", ClusterConfiguration=KUBEADM_CONFIGURATION)
    create(server, coordinator())
    assert (await until_phase(server, "Synced")).get("overlayPodCIDR", []) == []

    (tmp_path / "10-flannel.conflist").write_text('{"name": "flannel"}')

    await until(lambda: get(server, COORDINATOR_KIND, "default")["status"].get("overlayPodCIDR"))


async def test_the_reason_for_missing_cidrs_is_the_text_of_spiderpool(
    coordinators: Coordinators, server: ApiServer
) -> None:
    create(server, coordinator(podCIDRType="cluster"))

    reason = (await until_phase(server, "NotReady"))["reason"]

    assert reason == "No kube-controller-manager pod found, unable to get clusterCIDR"


async def test_an_unreadable_cni_configuration_makes_the_coordinator_not_ready(
    coordinators: Coordinators, server: ApiServer, tmp_path: Path
) -> None:
    """The file is a symbolic link to itself, which even root cannot read."""
    (tmp_path / "10-overlay.conflist").symlink_to("10-overlay.conflist")
    create(server, coordinator())

    assert "cannot be read" in (await until_phase(server, "NotReady"))["reason"]
