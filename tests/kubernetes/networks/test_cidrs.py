"""The controller reads Pod and Service CIDRs from objects of kubeadm, Calico or Cilium.

docs/reference/custom-resource-rules.md, "SpiderCoordinator", has the rules.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.kubernetes.api_client import Object
from ops.kubernetes import cidrs
from ops.kubernetes.cidrs import Cidrs


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({}, "none"),
        ({"10-calico.conflist": '{"name": "k8s-pod-network"}'}, "calico"),
        ({"10-calico.conflist": '{"name": "calico"}'}, "calico"),
        ({"05-cilium.conflist": '{"name": "cilium"}'}, "cilium"),
        # "cluster": the CIDRs of kubeadm or of the controller manager
        ({"10-flannel.conflist": '{"name": "flannel"}'}, "cluster"),
        ({"00-multus.conf": '{"name": "calico"}', "10-x.conf": '{"name": "cilium"}'}, "cilium"),
        # Only the first file by name counts; files of Multus are skipped.
        ({"10-a.conf": '{"name": "other"}', "20-b.conf": '{"name": "calico"}'}, "none"),
        ({"10-a.conf": "no json"}, "none"),
        ({"10-a.conf": "[1]"}, "none"),
    ],
)
def test_the_first_cni_configuration_names_the_overlay(files: dict[str, str], source: str) -> None:
    assert cidrs.source_of(files) == source


def config_map(**data: str) -> Object:
    return {"data": data}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "networking:\n  podSubnet: 10.244.0.0/16,fd00:1::/56\n  serviceSubnet: 10.96.0.0/12\n",
            Cidrs(("10.244.0.0/16", "fd00:1::/56"), ("10.96.0.0/12",)),
        ),
        ("networking: {serviceSubnet: 10.96.0.0/12}", Cidrs((), ("10.96.0.0/12",))),
        ("networking: 3", Cidrs()),
        ("a: [", Cidrs()),
        ("", Cidrs()),
    ],
)
def test_pod_and_service_cidrs_are_read_from_kubeadms_config_map(
    text: str, expected: Cidrs
) -> None:
    assert cidrs.of_kubeadm(config_map(ClusterConfiguration=text)) == expected


def test_a_controller_manager_flag_in_command_overrides_the_flag_in_args() -> None:
    container = {
        "command": ["kube-controller-manager", "--cluster-cidr=10.1.0.0/16"],
        "args": ["--cluster-cidr=10.2.0.0/16", "--service-cluster-ip-range=10.3.0.0/16,bad"],
    }
    manager_cidrs = cidrs.of_controller_manager({"spec": {"containers": [container]}})

    assert manager_cidrs == Cidrs(("10.1.0.0/16",), ("10.3.0.0/16",))


def test_enabled_calico_pools_are_ordered_by_creation_time() -> None:
    def calico_pool(name: str, created: str, cidr: str, **metadata: object) -> Object:
        metadata |= {"name": name, "creationTimestamp": created}
        return {"metadata": metadata, "spec": {"cidr": cidr}}

    disabled = calico_pool("disabled", "2026-01-01T00:00:00Z", "10.9.0.0/16")
    disabled["spec"]["disabled"] = True
    deleting = calico_pool("deleting", "2026-01-01T00:00:00Z", "10.8.0.0/16", deletionTimestamp="x")
    newer = calico_pool("a", "2026-01-03T00:00:00Z", "10.7.0.0/16")
    older = calico_pool("b", "2026-01-02T00:00:00Z", "10.6.0.0/16")

    pools = [disabled, deleting, newer, older]
    assert cidrs.of_calico(pools) == ("10.6.0.0/16", "10.7.0.0/16")


def test_pod_cidrs_are_read_from_the_config_map_and_the_pools_of_cilium() -> None:
    data = {"ipam": "cluster-pool", "cluster-pool-ipv4-cidr": "10.0.0.0/8 11.0.0.0/8"}
    assert cidrs.of_cilium({"data": data}).cidrs == ("10.0.0.0/8", "11.0.0.0/8")

    pools = [{"metadata": {"name": "a"}, "spec": {"ipv4": {"cidrs": ["10.4.0.0/16"]}}}]
    assert cidrs.of_cilium_pools(pools) == ("10.4.0.0/16",)


def test_cidrs_of_service_cidr_objects_are_ordered_by_object_name() -> None:
    objects = [
        {"metadata": {"name": "b"}, "spec": {"cidrs": ["10.97.0.0/16"]}},
        {"metadata": {"name": "a"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}},
    ]
    assert cidrs.of_service_cidrs(objects) == ("10.96.0.0/16", "fd00::/112", "10.97.0.0/16")


@given(st.text())
def test_any_text_in_a_config_map_or_cni_configuration_is_read_without_an_error(text: str) -> None:
    assert isinstance(cidrs.of_kubeadm(config_map(ClusterConfiguration=text)), Cidrs)
    assert cidrs.source_of({"10-a.conf": json.dumps(text)}) == "none"


OBJECTS_OF_ANY_SHAPE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "spec",
                    "data",
                    "cidr",
                    "cidrs",
                    "ipv4",
                    "containers",
                    "command",
                    "disabled",
                    "ipam",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
"""Values of any shape under real field names, as a CRD without a schema allows."""


@given(OBJECTS_OF_ANY_SHAPE)
def test_every_text_read_from_an_object_of_any_shape_is_a_cidr(value: object) -> None:
    fields = value if isinstance(value, dict) else {"spec": value, "data": value}
    body = {"metadata": {"name": "any"}} | fields

    for result in (
        cidrs.of_calico([body]),
        cidrs.of_cilium_pools([body]),
        cidrs.of_service_cidrs([body]),
        cidrs.of_cilium(body).cidrs,
        *cidrs.of_controller_manager(body),
        *cidrs.of_kubeadm(body),
    ):
        assert all("/" in cidr for cidr in result)
