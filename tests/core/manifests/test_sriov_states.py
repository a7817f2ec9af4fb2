"""A SriovNetworkNodeState has the fields that the SR-IOV network operator defines."""

from __future__ import annotations

from core.domain.sriov.model import INFINIBAND, PhysicalFunction, VfRange, VirtualFunction
from core.domain.sriov.vf_plan import DesiredNic, VfGroup
from core.manifests.sriov_states import (
    ERROR_CHARS_MAX,
    FAILED,
    SyncResult,
    node_state,
    node_state_status,
)

NIC = PhysicalFunction(
    "ens1f0",
    address="0000:3b:00.0",
    vendor="15b3",
    device="1017",
    mac="0c:42:a1:00:00:01",
    mtu=9_000,
    vfs_max=16,
    vfs=(
        VirtualFunction(
            0,
            address="0000:3b:00.2",
            driver="mlx5_core",
            link="ens1f0v0",
            mac="02:00:00:00:00:01",
            mtu=1_500,
        ),
        VirtualFunction(
            1,
            address="0000:3b:00.3",
            driver="mlx5_core",
            is_used=True,
            trust=True,
            spoof_check=False,
            vlan=100,
        ),
    ),
    driver="mlx5_core",
)


def test_the_specification_lists_the_nics_and_groups_of_the_policies() -> None:
    group = VfGroup(
        "rail", policy="roce", vfs=VfRange(0, last=1), is_rdma=True, mtu=9_000, trust=True
    )

    state = node_state(
        "node-1", [DesiredNic("ens1f0", NIC.address, vfs=2, mtu=9_000, groups=(group,))]
    )

    assert state["metadata"] == {"name": "node-1"}
    assert state["spec"]["interfaces"] == [
        {
            "pciAddress": "0000:3b:00.0",
            "name": "ens1f0",
            "numVfs": 2,
            "mtu": 9_000,
            "vfGroups": [
                {
                    "resourceName": "rail",
                    "policyName": "roce",
                    "vfRange": "0-1",
                    "deviceType": "netdevice",
                    "isRdma": True,
                    "mtu": 9_000,
                    "trust": "on",
                }
            ],
        }
    ]


def test_the_status_has_every_nic_with_its_virtual_functions() -> None:
    external = {NIC.address}  # NICs that another program manages
    status = node_state_status("node-1", [NIC], external, SyncResult(FAILED, "reason"))["status"]

    assert (status["syncStatus"], status["lastSyncError"]) == ("Failed", "reason")
    (interface,) = status["interfaces"]
    assert interface["linkType"] == "ETH"
    assert (interface["totalvfs"], interface["numVfs"]) == (16, 2)
    assert interface["externallyManaged"]
    assert interface["Vfs"] == [
        {
            "vfID": 0,
            "pciAddress": "0000:3b:00.2",
            "name": "ens1f0v0",
            "mac": "02:00:00:00:00:01",
            "driver": "mlx5_core",
            "mtu": 1_500,
        },
        {
            "vfID": 1,
            "pciAddress": "0000:3b:00.3",
            "driver": "mlx5_core",
            "Vlan": 100,
            "assigned": "true",
            "trust": "on",
            "spoofChk": "off",
        },
    ]


def test_virtual_functions_of_infiniband_have_a_guid() -> None:
    guid = "02:42:a1:03:00:16:05:48"
    nic = NIC._replace(link_type=INFINIBAND, vfs=(NIC.vfs[0]._replace(mac=guid),))

    (interface,) = node_state_status("n", [nic], set(), SyncResult(FAILED))["status"]["interfaces"]

    assert interface["linkType"] == "IB"
    assert interface["Vfs"][0]["guid"] == guid
    assert "mac" not in interface["Vfs"][0]


def test_a_long_error_is_truncated() -> None:
    status = node_state_status("n", [], set(), SyncResult(FAILED, "x" * 10_000))["status"]

    assert len(status["lastSyncError"]) == ERROR_CHARS_MAX
