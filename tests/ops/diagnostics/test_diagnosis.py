"""The rows of ``orbctl node doctor``: each fault of a node has a verdict and a remedy."""

from __future__ import annotations

import re

import msgspec
import pytest

from core.domain.roce_qos.qos_model import (
    UNSET,
    DcbSettings,
    EcnSettings,
    EtsSettings,
    RoceNic,
    RocePort,
    RoceQos,
    RoceQosRule,
)
from core.settings.roce_qos import RoceQosConf, roce_qos_rules
from nodeagent.settings.sysctls import NODE_SYSCTLS, SysctlReading
from ops.cli.commands.node import CHECK_COLUMNS
from ops.cli.output import show_table
from ops.diagnostics.diagnosis import READ_REMEDY, Diagnosis, diagnose, worst
from ops.diagnostics.examination import Examination, GatewayAnswer
from ops.diagnostics.kernel_features import KernelFeature
from ops.diagnostics.network_manager import NetworkManagerState
from ops.diagnostics.nics import Gateway, MasterNic
from ops.diagnostics.roce_qos import roce_states
from tests.tidy.sources import PROJECT_ROOT

NIC = MasterNic(
    "ens3",
    "nic",
    "02:00:00:00:00:01",
    mtu=1500,
    up=True,
    carrier=True,
    promiscuity=0,
    master="",
    addresses=("10.6.0.2/24", "fd00:6::2/64"),
)
LINKS = {"sp_bond0": "bond", "sp_bond0.100": "vlan", "bond0": "bond", "br0": "bridge"}
ROUTER = Gateway("ens3", "10.6.0.1", 4)
HEALTHY = Examination(
    kernel="6.12",
    machine="x86_64",
    missing_capabilities=(),
    ipv6=True,
    features=(KernelFeature("macvlan links", "macvlan"),),
    sysctls=tuple(SysctlReading(sysctl, sysctl.value) for sysctl in NODE_SYSCTLS),
    nics=(NIC,),
    gateways=(GatewayAnswer(ROUTER, ("02:00:00:00:00:fe",)),),
    manager=NetworkManagerState(running=False),
)


def test_a_healthy_node_needs_no_remedy() -> None:
    diagnoses = diagnose(HEALTHY)

    assert worst(diagnoses) == "ok"
    assert {diagnosis.remedy for diagnosis in diagnoses} == {""}
    assert (
        Diagnosis(
            "interface ens3",
            "ok",
            "nic, up, MTU 1500, 02:00:00:00:00:01, 10.6.0.2/24, fd00:6::2/64",
        )
        in diagnoses
    )
    assert Diagnosis("gateway 10.6.0.1 on ens3", "ok", "02:00:00:00:00:fe answers") in diagnoses


def test_an_interface_is_shown_with_its_virtual_functions_and_rdma_device() -> None:
    nic = NIC._replace(device="0000:01:00.0", vfs=3, vfs_max=7, rdma=("mlx5_0",), addresses=())

    diagnoses = diagnose(HEALTHY._replace(nics=(nic,)))
    (row,) = (row for row in diagnoses if row.check == "interface ens3")

    assert row.found == "nic, up, MTU 1500, 02:00:00:00:00:01, 3 of 7 VFs created, RDMA mlx5_0"


FAULTS: dict[str, tuple[Examination, Diagnosis]] = {
    "a missing capability": (
        HEALTHY._replace(missing_capabilities=("NET_RAW",)),
        Diagnosis("capabilities", "failed", "missing: NET_RAW",
                  "run this command as root, or grant the capabilities to the agent"),
    ),
    "no IPv6": (
        HEALTHY._replace(ipv6=False),
        Diagnosis("IPv6", "warning", "not in the kernel",
                  "modprobe ipv6, or set enableIPv6: false"),
    ),
    "no macvlan": (
        HEALTHY._replace(
            features=(KernelFeature("macvlan links", "macvlan", "Operation not supported"),)
        ),
        Diagnosis("macvlan links", "failed", "no: Operation not supported", "modprobe -a macvlan"),
    ),
    "no bonds": (
        HEALTHY._replace(
            features=(KernelFeature("bond links", "bonding", "Operation not supported"),)
        ),
        Diagnosis("bond links", "warning", "no: Operation not supported", "modprobe -a bonding"),
    ),
    "a sysctl with another value": (
        HEALTHY._replace(sysctls=(SysctlReading(NODE_SYSCTLS[3], "0"),)),
        Diagnosis("sysctl ipv4.conf.all.forwarding", "warning", "0, not 1",
                  "sysctl -w net.ipv4.conf.all.forwarding=1, or tuneSysctlConfig: true"),
    ),
    "a missing sysctl": (
        HEALTHY._replace(sysctls=(SysctlReading(NODE_SYSCTLS[0], None),)),
        Diagnosis("sysctl ipv4.neigh.default.gc_thresh3", "warning", "the kernel has no such key",
                  "agents skip this sysctl; if Pods need it, use another kernel"),
    ),
    "NetworkManager": (
        HEALTHY._replace(manager=NetworkManagerState(running=True)),
        Diagnosis("NetworkManager", "warning", "runs, and may reconfigure veth*",
                  "write to /etc/NetworkManager/conf.d/spidernet.conf: [keyfile];"
                  " unmanaged-devices+=interface-name:veth*"),
    ),
    "NetworkManager, with links that ifacer may have created": (
        HEALTHY._replace(
            manager=NetworkManagerState(True, ("interface-name:veth*",), frozenset({"bond0"})),
            nics=(NIC, *(NIC._replace(name=name, kind=kind) for name, kind in LINKS.items())),
        ),
        Diagnosis("NetworkManager", "warning", "runs, and may reconfigure sp_bond0, sp_bond0.100",
                  "write to /etc/NetworkManager/conf.d/spidernet.conf, without interfaces that"
                  " NetworkManager must manage: [keyfile]; unmanaged-devices+="
                  "interface-name:sp_bond0;interface-name:sp_bond0.100"),
    ),
    "NetworkManager, checked from a Pod": (
        HEALTHY._replace(manager=None),
        Diagnosis("NetworkManager", "warning", "unknown: it cannot be checked from a Pod",
                  "if it runs on the node, write to /etc/NetworkManager/conf.d/spidernet.conf:"
                  " [keyfile]; unmanaged-devices+=interface-name:veth*"),
    ),
    "no carrier": (
        HEALTHY._replace(nics=(NIC._replace(carrier=False, promiscuity=1, master="br0"),)),
        Diagnosis("interface ens3", "warning",
                  "nic, no carrier, MTU 1500, 02:00:00:00:00:01, 10.6.0.2/24, fd00:6::2/64,"
                  " promiscuous, in br0",
                  "check its cable and the port of the switch"),
    ),
    "an MTU too small for IPv6": (
        HEALTHY._replace(nics=(NIC._replace(mtu=576, addresses=()),)),
        Diagnosis("interface ens3", "warning", "nic, up, MTU 576, 02:00:00:00:00:01",
                  "IPv6 needs 1280: ip link set ens3 mtu 1280"),
    ),
    "a silent gateway": (
        HEALTHY._replace(gateways=(GatewayAnswer(ROUTER),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "no host answers",
                  "check that the gateway is on this link;"
                  " with enableGatewayDetection, ADD fails here"),
    ),
    "two hosts with the gateway's address": (
        HEALTHY._replace(gateways=(GatewayAnswer(ROUTER, ("02::1", "02::2")),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "several hosts answer: 02::1, 02::2",
                  "if two machines have this address, change one;"
                  " or stop a proxy that answers for it"),
    ),
    "a gateway that cannot be probed": (
        HEALTHY._replace(gateways=(GatewayAnswer(ROUTER, (), "it is down"),)),
        Diagnosis("gateway 10.6.0.1 on ens3", "warning", "it is down", READ_REMEDY),
    ),
    "routes that cannot be read": (
        HEALTHY._replace(faults=("routes cannot be read: no",)),
        Diagnosis("examination", "failed", "routes cannot be read: no", READ_REMEDY),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("examination", "diagnosis"), FAULTS.values(), ids=FAULTS)
def test_every_fault_has_a_verdict_and_a_remedy(
    examination: Examination, diagnosis: Diagnosis
) -> None:
    diagnoses = diagnose(examination)

    assert diagnosis in diagnoses
    assert worst(diagnoses) == diagnosis.verdict


QOS = RoceQos()
RULE = RoceQosRule(QOS, ("ens*",))
ROCE_NIC = RoceNic(
    "ens1f0",
    (RocePort("mlx5_0", 1, traffic_class=160, cm_traffic_class=160),),
    DcbSettings(pfc=frozenset({5}), dscp_priorities=QOS.dscp_priorities),
    EcnSettings(notification=frozenset({5}), reaction=frozenset({5}), cnp_dscp=48, cnp_priority=6),
)
VIRTUAL_FUNCTION = RoceNic(
    "ens1f0v0",
    (RocePort("mlx5_2", 1, traffic_class=UNSET),),
    master="ens1f0",
    has_port_settings=False,
)
CONFIGURED = (
    "trust dscp, PFC 5, ECN 5, CNP DSCP 48, CNP priority 6, mlx5_0 traffic class 160 RDMA CM 160"
)
UNCONFIGURED = "trust pcp, PFC off, ECN 5, CNP DSCP 48, CNP priority 6, mlx5_0 traffic class 160"
UNCONFIGURED_NIC = ROCE_NIC._replace(
    dcb=DcbSettings(pfc=frozenset()), ports=(RocePort("mlx5_0", 1, traffic_class=160),)
)


@pytest.mark.parametrize(
    ("nic", "rules", "verdict", "expected"),
    [
        (ROCE_NIC, [RULE], "ok", CONFIGURED),
        (UNCONFIGURED_NIC, [], "ok", UNCONFIGURED),
        (UNCONFIGURED_NIC, [RULE], "warning", f"{UNCONFIGURED}; missing: DSCP to priority 0-7:0"),
        (UNCONFIGURED_NIC, [RULE._replace(nodes={"network": "roce"})], "ok",
         f"{UNCONFIGURED}; a rule for nodes with network=roce requires DSCP to priority 0-7:0"),
        (ROCE_NIC._replace(dcb=None, ecn=None), [RULE], "warning",
         "no DCB, no ECN files, mlx5_0 traffic class 160 RDMA CM 160; trust, PFC: the driver has"),
    ],
)  # fmt: skip
def test_a_roce_nic_is_shown_with_its_qos_and_its_missing_settings(
    nic: RoceNic, rules: list[RoceQosRule], verdict: str, expected: str
) -> None:
    examination = HEALTHY._replace(roce=tuple(roce_states([nic], rules)))

    (row,) = (row for row in diagnose(examination) if row.check == "RoCE QoS of ens1f0")

    assert row.verdict == verdict
    assert row.found.startswith(expected)
    assert bool(row.remedy) is (verdict == "warning")


def test_a_virtual_function_is_shown_only_if_it_differs_from_its_rule() -> None:
    configured_function = VIRTUAL_FUNCTION._replace(
        ports=(RocePort("mlx5_2", 1, traffic_class=160, cm_traffic_class=160),)
    )

    assert roce_states([configured_function], [RULE]) == []
    assert roce_states([VIRTUAL_FUNCTION], []) == []
    assert [state.nic for state in roce_states([VIRTUAL_FUNCTION], [RULE])] == ["ens1f0v0"]


def test_the_roce_guide_shows_the_output_of_node_doctor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (PROJECT_ROOT / "docs/guides/rdma-roce.md").read_text("utf-8")
    (values,) = re.findall(
        r"^```yaml\n(orbweaver:\n  roceQos:.*?)```$", page, re.MULTILINE | re.DOTALL
    )
    conf = msgspec.yaml.decode(values)["orbweaver"]["roceQos"]
    rules = roce_qos_rules(msgspec.convert(conf, tuple[RoceQosConf, ...]))
    ets = EtsSettings(classes=(0, 0, 0, 0, 0, 1, 2, 0), bandwidths=(40, 60, None))
    assert ROCE_NIC.dcb is not None
    port_without_traffic_class = RocePort("mlx5_1", 1, traffic_class=None, cm_traffic_class=160)
    nics = [
        ROCE_NIC._replace(dcb=ROCE_NIC.dcb._replace(ets=ets)),
        RoceNic("ens2f0", (port_without_traffic_class,), ROCE_NIC.dcb),
    ]
    rows = diagnose(HEALTHY._replace(roce=tuple(roce_states(nics, rules))))

    show_table(CHECK_COLUMNS, (row for row in rows if row.check.startswith("RoCE QoS")))

    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert f"```console\n# orbctl node doctor\n{printed}\n" in page, printed
