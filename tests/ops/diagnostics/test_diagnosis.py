"""The rows of a node's diagnosis."""

from __future__ import annotations

import pytest

from nodeagent.settings.sysctls import WANTED, SysctlValue
from ops.diagnostics.diagnosis import Diagnosis, diagnose, worst
from ops.diagnostics.examination import Examination, GatewayAnswer
from ops.diagnostics.kernel_features import KernelFeature
from ops.diagnostics.network_manager import Manager
from ops.diagnostics.nics import Gateway, MasterNic

NIC = MasterNic(
    "ens3", "nic", "02:00:00:00:00:01", 1500, True, True, 0, "", ("10.6.0.2/24", "fd00:6::2/64")
)
ROUTER = Gateway("ens3", "10.6.0.1", 4)
WELL = Examination(
    "6.12",
    "x86_64",
    (),
    True,
    (KernelFeature("macvlan links", "macvlan"),),
    tuple(SysctlValue(one, one.value) for one in WANTED),
    (NIC,),
    (GatewayAnswer(ROUTER, ("02:00:00:00:00:fe",)),),
    Manager(running=False, leaves_veths=False),
)


def test_a_node_that_is_well_has_nothing_to_do() -> None:
    diagnoses = diagnose(WELL)

    assert worst(diagnoses) == "ok"
    assert {one.remedy for one in diagnoses} == {""}
    assert (
        Diagnosis(
            "interface ens3",
            "ok",
            "nic, up, MTU 1500, 02:00:00:00:00:01, 10.6.0.2/24, fd00:6::2/64",
        )
        in diagnoses
    )
    assert Diagnosis("gateway 10.6.0.1 on ens3", "ok", "02:00:00:00:00:fe answers") in diagnoses


def test_what_is_behind_an_interface_is_told_with_it() -> None:
    nic = NIC._replace(device="0000:01:00.0", vfs=3, vfs_max=7, rdma=("mlx5_0",), addresses=())

    (told,) = (one for one in diagnose(WELL._replace(nics=(nic,))) if "ens3" in one.check[:14])

    assert told.found == "nic, up, MTU 1500, 02:00:00:00:00:01, 3 of 7 VFs created, RDMA mlx5_0"


ILLS: dict[str, tuple[Examination, Diagnosis]] = {
    "not root": (
        WELL._replace(missing_capabilities=("NET_RAW",)),
        Diagnosis("capabilities", "failed", "missing: NET_RAW",
                  "run as root, or grant them to the agent"),
    ),
    "no IPv6": (
        WELL._replace(ipv6=False),
        Diagnosis("IPv6", "warning", "not in the kernel",
                  "modprobe ipv6, or set enableIPv6: false"),
    ),
    "no macvlan": (
        WELL._replace(
            abilities=(KernelFeature("macvlan links", "macvlan", "Operation not supported"),)
        ),
        Diagnosis("macvlan links", "failed", "no: Operation not supported", "modprobe -a macvlan"),
    ),
    "no bonds": (
        WELL._replace(
            abilities=(KernelFeature("bond links", "bonding", "Operation not supported"),)
        ),
        Diagnosis("bond links", "warning", "no: Operation not supported", "modprobe -a bonding"),
    ),
    "a sysctl": (
        WELL._replace(sysctls=(SysctlValue(WANTED[3], "0"),)),
        Diagnosis("sysctl ipv4.conf.all.forwarding", "warning", "0, not 1",
                  "sysctl -w net.ipv4.conf.all.forwarding=1, or tuneSysctlConfig: true"),
    ),
    "a sysctl that is not there": (
        WELL._replace(sysctls=(SysctlValue(WANTED[0], None),)),
        Diagnosis("sysctl ipv4.neigh.default.gc_thresh3", "warning", "the kernel has no such key"),
    ),
    "NetworkManager": (
        WELL._replace(manager=Manager(running=True, leaves_veths=False)),
        Diagnosis("NetworkManager", "warning", "runs, and may reconfigure Pods' veth interfaces",
                  "write to /etc/NetworkManager/conf.d/spidernet.conf: [keyfile];"
                  " unmanaged-devices=interface-name:veth*"),
    ),
    "NetworkManager, of a Pod": (
        WELL._replace(manager=None),
        Diagnosis("NetworkManager", "warning", "a Pod does not see whether the node has one",
                  "if it runs on the node, write to /etc/NetworkManager/conf.d/spidernet.conf:"
                  " [keyfile]; unmanaged-devices=interface-name:veth*"),
    ),
    "a cable": (
        WELL._replace(nics=(NIC._replace(carrier=False, promiscuity=1, master="br0"),)),
        Diagnosis("interface ens3", "warning",
                  "nic, no carrier, MTU 1500, 02:00:00:00:00:01, 10.6.0.2/24, fd00:6::2/64,"
                  " promiscuous, in br0", "check its cable or its master"),
    ),
    "an MTU": (
        WELL._replace(nics=(NIC._replace(mtu=576, addresses=()),)),
        Diagnosis("interface ens3", "warning", "nic, up, MTU 576, 02:00:00:00:00:01",
                  "IPv6 needs 1280: ip link set ens3 mtu 1280"),
    ),
    "a silent gateway": (
        WELL._replace(gateways=(GatewayAnswer(ROUTER),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "no host answers",
                  "check that it is on this link; with enableGatewayDetection, Pods fail here"),
    ),
    "two gateways of one address": (
        WELL._replace(gateways=(GatewayAnswer(ROUTER, ("02::1", "02::2")),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "several hosts answer: 02::1, 02::2",
                  "two machines have this address, or a proxy answers for it"),
    ),
    "a gateway that cannot be asked": (
        WELL._replace(gateways=(GatewayAnswer(ROUTER, (), "it is down"),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "it is down"),
    ),
    "what could not be read": (
        WELL._replace(faults=("routes cannot be read: no",)),
        Diagnosis("examination", "failed", "routes cannot be read: no", "run it as root"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "diagnosis"), ILLS.values(), ids=ILLS)
def test_what_is_wrong_comes_with_what_to_do(seen: Examination, diagnosis: Diagnosis) -> None:
    diagnoses = diagnose(seen)

    assert diagnosis in diagnoses
    assert worst(diagnoses) == diagnosis.verdict
