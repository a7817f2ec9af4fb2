"""SriovNetworkNodePolicies are read from YAML."""

from __future__ import annotations

import pytest

from core.domain.sriov.model import INFINIBAND, NicName, NicSelector, NodePolicy, VfRange
from core.errors import BadInput
from core.manifests.sriov_policy_parser import node_policies

ROCE = """
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {name: roce-gpu1, namespace: spiderpool}
spec:
  nodeSelector: {kubernetes.io/os: linux}
  resourceName: gpu1sriov
  priority: 99
  numVfs: 12
  mtu: 4200
  nicSelector:
    deviceID: "1017"
    vendor: "15B3"
    rootDevices: ["0000:86:00.0"]
    pfNames: ["enp11s0f0np0#0-5"]
  linkType: ETH
  deviceType: netdevice
  isRdma: true
  needVhostNet: false
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
"""


def policy_with(field: str, value: str) -> str:
    return f"""
apiVersion: sriovnetwork.openshift.io/v1
kind: SriovNetworkNodePolicy
metadata: {{name: p}}
spec: {{resourceName: r, numVfs: 4, nicSelector: {{pfNames: [ens1f0]}}, {field}: {value}}}
"""


def test_every_field_of_a_policy_is_read_and_other_kinds_are_skipped() -> None:
    assert list(node_policies(ROCE)) == [
        NodePolicy(
            "roce-gpu1",
            "gpu1sriov",
            vfs=12,
            nics=NicSelector(
                (NicName("enp11s0f0np0", vfs=VfRange(0, last=5)),),
                vendor="15b3",
                device="1017",
                root_devices=("0000:86:00.0",),
            ),
            nodes={"kubernetes.io/os": "linux"},
            priority=99,
            mtu=4_200,
            link_type="eth",
            device_type="netdevice",
            is_rdma=True,
        )
    ]


def test_an_empty_device_type_means_netdevice() -> None:
    (policy,) = node_policies(policy_with("deviceType", '""'))

    assert policy.device_type == "netdevice"


@pytest.mark.parametrize(("text", "value"), [('"on"', True), ('"off"', False), ('""', None)])
def test_trust_and_spoof_check_are_on_off_or_not_set(text: str, value: bool | None) -> None:
    (trust_policy,) = node_policies(policy_with("trust", text))
    (spoof_check_policy,) = node_policies(policy_with("spoofChk", text))

    assert (trust_policy.trust, trust_policy.spoof_check) == (value, None)
    assert (spoof_check_policy.trust, spoof_check_policy.spoof_check) == (None, value)


def test_missing_fields_have_the_defaults_of_the_operator() -> None:
    (policy,) = node_policies(policy_with("linkType", "ib"))

    assert policy == NodePolicy(
        "p", "r", vfs=4, nics=NicSelector((NicName("ens1f0"),)), link_type=INFINIBAND
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("numVf", "4", "numVf"),
        ("vdpaType", "virtio", "spec.vdpaType is not supported"),
        ("mtu", "large", "expected a whole number"),
        ("trust", "'yes'", "spec.trust: 'yes' is not on or off"),
        ("spoofChk", "on", "spec.spoofChk: expected a string, got true or false"),
        ("nicSelector", '{pfNames: ["ens1f0#9-2"]}', "'ens1f0#9-2' is not the name of a NIC"),
        ("nicSelector", "{netFilter: x}", "netFilter is not supported"),
    ],
)
def test_the_error_of_an_invalid_policy_names_the_field(
    field: str, value: str, message: str
) -> None:
    # The ``nicSelector`` of a case replaces that of the sample.
    text = policy_with(field, value).replace("nicSelector: {pfNames: [ens1f0]}, nic", "nic")

    with pytest.raises(BadInput, match=message):
        list(node_policies(text))


def test_another_api_version_is_refused() -> None:
    with pytest.raises(BadInput, match=r"expected sriovnetwork\.openshift\.io/v1"):
        list(node_policies(ROCE.replace("openshift.io/v1", "openshift.io/v2")))
