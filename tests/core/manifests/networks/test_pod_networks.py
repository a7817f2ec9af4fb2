"""A new Pod gets networks and devices (docs/reference/admission.md, "Pods", step A)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.errors import BadInput
from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.networks.network_defaults import completed
from core.manifests.networks.pod_networks import InjectableNetwork, inject

RDMA = "cni.spidernet.io/rdma-resource-inject"
NETWORK = "cni.spidernet.io/network-resource-inject"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
POOLS = {"ipv4": ["blue"]}


def injectable_network(name: str, spec: dict[str, Any], key: str = RDMA) -> InjectableNetwork:
    """A network for Pods whose annotation ``key`` has the value ``a``."""
    completed_spec = completed(msgspec.convert(spec, MultusConfigSpec))
    return InjectableNetwork("net-ns", name, {key: "a"}, completed_spec)


def macvlan(name: str, *masters: str, resource: str = "x/y", key: str = RDMA) -> InjectableNetwork:
    """A network with a shared RDMA device."""
    block = {"master": list(masters), "rdmaResourceName": resource, "ippools": POOLS}
    if len(masters) > 1:
        block["bond"] = {"name": "bond9", "mode": 1}
    return injectable_network(name, {"cniType": "macvlan", "macvlan": block}, key)


def pod(*containers: dict[str, Any], **annotations: str) -> dict[str, Any]:
    """Return a Pod. It also serves as a Namespace, of which only the annotations are read."""
    return {
        "metadata": {"annotations": annotations},
        "spec": {"containers": list(containers) or [{}]},
    }


def test_a_pod_without_inject_annotation_is_not_changed() -> None:
    assert inject(pod({"name": "a"}), namespace=pod(), networks=[macvlan("m", "ens3")]) == pod(
        {"name": "a"}
    )


def test_networks_are_sorted_by_master_and_name_and_replace_the_annotation() -> None:
    before = pod(**{RDMA: "a", NETWORKS: "old"})
    injected = inject(
        before,
        namespace=pod(),
        networks=[
            macvlan("z", "ens4"),
            macvlan("b", "ens3"),
            macvlan("a", "ens3"),
            macvlan("y", "e", "f"),
        ],
    )

    names = injected["metadata"]["annotations"][NETWORKS]
    assert names == "net-ns/y,net-ns/a,net-ns/b,net-ns/z"
    assert before["metadata"]["annotations"][NETWORKS] == "old"


def test_a_pod_gets_the_name_of_the_network_attachment_definition() -> None:
    renamed_network = macvlan("m", "ens3")._replace(nad="m-nad")
    injected = inject(pod(**{RDMA: "a"}), namespace=pod(), networks=[renamed_network])

    assert injected["metadata"]["annotations"][NETWORKS] == "net-ns/m-nad"


def test_a_device_is_added_to_the_limits_unless_a_container_already_has_it() -> None:
    networks = [macvlan("m", "ens3"), macvlan("n", "ens4", resource="x/z")]
    with_device = {"name": "b", "resources": {"limits": {"x/z": "2"}}}
    injected = inject(
        pod({"name": "a"}, with_device, **{RDMA: "a"}), namespace=pod(), networks=networks
    )

    assert injected["spec"]["containers"] == [
        {"name": "a", "resources": {"limits": {"x/y": "1"}}},
        with_device,
    ]


def test_an_annotation_of_the_pod_takes_precedence_over_its_namespace() -> None:
    networks = [macvlan("m", "ens3"), macvlan("n", "ens4", key=NETWORK)]
    namespace = pod(**{RDMA: "a"})

    assert inject(pod(**{NETWORK: "a"}), namespace=namespace, networks=networks)["metadata"][
        "annotations"
    ] == {
        NETWORK: "a",
        NETWORKS: "net-ns/n",
    }
    injected_by_namespace = inject(pod(), namespace=namespace, networks=networks)
    assert injected_by_namespace["metadata"]["annotations"] == {NETWORKS: "net-ns/m"}


def vf_network(name: str, resource: str, kind: str = "sriov", **block: Any) -> InjectableNetwork:
    field = kind.replace("-", "")
    fields = {"resourceName": resource, "ippools": POOLS} | block
    return injectable_network(name, {"cniType": kind, field: fields})


def test_sriov_infiniband_and_shared_devices_add_their_resources_to_the_limits() -> None:
    networks = [
        vf_network("roce", "spidernet.io/gpu1rdma", rdmaIsolation=True),
        vf_network("roce-of-1.0", "spidernet.io/gpu2rdma", enableRdma=True),
        vf_network("ib", "spidernet.io/gpu1ib", "ib-sriov"),
        macvlan("shared", "ens3", resource="spidernet.io/shared_cx5"),
        injectable_network(
            "ipoib", {"cniType": "ipoib", "ipoib": {"master": "ibs5", "ippools": POOLS}}
        ),
    ]

    injected = inject(pod(**{RDMA: "a"}), namespace=pod(), networks=networks)

    names = ("ib", "ipoib", "shared", "roce", "roce-of-1.0")
    assert injected["metadata"]["annotations"][NETWORKS] == ",".join(
        f"net-ns/{name}" for name in names
    )
    assert injected["spec"]["containers"][0]["resources"]["limits"] == {
        "spidernet.io/gpu1ib": "1",
        "spidernet.io/shared_cx5": "1",
        "spidernet.io/gpu1rdma": "1",
        "spidernet.io/gpu2rdma": "1",
    }


# Networks in the InfiniBand guides of Spiderpool, by version.
GUIDES = {
    "0.9": [{"resourceName": f"spidernet.io/mellanoxibsriov{number}"} for number in range(1, 9)],
    "1.2": [
        {"resourceName": f"spidernet.io/gpu{number}", "rdmaIsolation": True}
        for number in range(1, 9)
    ],
}


@pytest.mark.parametrize("blocks", GUIDES.values(), ids=GUIDES)
@pytest.mark.parametrize("key", [RDMA, NETWORK])
def test_a_pod_of_the_infiniband_guides_gets_eight_adapters(
    blocks: list[dict[str, Any]], key: str
) -> None:
    networks = [
        injectable_network(
            f"gpu{number}", {"cniType": "ib-sriov", "ibsriov": {**block, "ippools": POOLS}}, key
        )
        for number, block in reversed(list(enumerate(blocks, 1)))
    ]

    injected = inject(pod(**{key: "a"}), namespace=pod(), networks=networks)

    names = ",".join(f"net-ns/gpu{number}" for number in range(1, 9))
    assert injected["metadata"]["annotations"] == {key: "a", NETWORKS: names}
    assert injected["spec"]["containers"] == [
        {"resources": {"limits": {block["resourceName"]: "1" for block in blocks}}}
    ]


def test_sriov_networks_request_a_device_each_and_macvlan_networks_share_one() -> None:
    networks = [
        vf_network("a", "x/vf"),
        vf_network("b", "x/vf"),
        vf_network("c", "x/ib", "ib-sriov"),
    ]
    networks += [macvlan("m", "ens3", resource="x/share"), macvlan("n", "ens4", resource="x/share")]

    injected = inject(pod(**{RDMA: "a"}), namespace=pod(), networks=networks)

    limits = injected["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"x/ib": "1", "x/share": "1", "x/vf": "2"}


@pytest.mark.parametrize(
    ("network", "key", "words"),
    [
        (injectable_network("c", {"customCNI": ""}), RDMA, "cniType custom: .* cannot be injected"),
        (
            injectable_network("w", {"cniType": "macvlan"}),
            RDMA,
            "cniType macvlan and no block macvlan",
        ),
        (macvlan("m", "ens3", resource=""), RDMA, "no resource name"),
        (
            injectable_network("s", {"cniType": "sriov", "sriov": {"resourceName": "x/y"}}),
            RDMA,
            "no ippools",
        ),
        (macvlan("m", "ens3", key=NETWORK), RDMA, "no SpiderMultusConfig"),
    ],
)
def test_a_pod_without_an_injectable_network_is_refused(
    network: InjectableNetwork, key: str, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        inject(pod(**{key: "a"}), namespace=pod(), networks=[network])


def test_a_network_without_a_device_needs_no_pools() -> None:
    block = {"master": ["ens3"]}
    network = injectable_network("m", {"cniType": "macvlan", "macvlan": block}, NETWORK)
    injected = inject(pod(**{NETWORK: "a"}), namespace=pod(), networks=[network])

    assert injected["metadata"]["annotations"][NETWORKS] == "net-ns/m"
    assert injected["spec"]["containers"] == [{}]
