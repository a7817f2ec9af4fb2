"""The plan for the RoCE NICs of a node: changes, and settings that drivers lack."""

from __future__ import annotations

import pytest

from core.domain.roce_qos.qos_model import (
    UNSET,
    DcbSettings,
    DscpPriority,
    EcnSettings,
    EtsSettings,
    RoceNic,
    RocePort,
    RoceQos,
    RoceQosRule,
    Trust,
    qos_of,
)
from core.domain.roce_qos.qos_plan import QosPlan, plan_qos

QOS = RoceQos()
"""RoCE: DSCP 40, priority 5. Congestion notification packets (CNPs): DSCP 48, priority 6."""
NO_PRIORITIES: frozenset[int] = frozenset()
UNCONFIGURED = RoceNic(
    "ens1f0",
    (RocePort("mlx5_0", port=1, traffic_class=UNSET, cm_traffic_class=UNSET),),
    DcbSettings(NO_PRIORITIES),
    EcnSettings(NO_PRIORITIES, NO_PRIORITIES, cnp_dscp=48, cnp_priority=7),
)
CONFIGURED = RoceNic(
    "ens1f0",
    (RocePort("mlx5_0", port=1, traffic_class=160, cm_traffic_class=160),),
    DcbSettings(frozenset({5}), QOS.dscp_priorities),
    EcnSettings(frozenset({3, 5}), frozenset({5}), cnp_dscp=48, cnp_priority=6),
)
VF_NIC = RoceNic(
    "ens1f0v0",
    (RocePort("mlx5_2", port=1, traffic_class=UNSET, cm_traffic_class=0),),
    master="ens1f0",
    has_port_settings=False,
)


def plan(nic: RoceNic, qos: RoceQos = QOS) -> QosPlan:
    return plan_qos([RoceQosRule(qos)], labels={}, nics=[nic])


def changes(nic: RoceNic, qos: RoceQos = QOS) -> list[str]:
    return [str(change) for change in plan(nic, qos).changes]


def with_dcb(nic: RoceNic, **fields: object) -> RoceNic:
    assert nic.dcb is not None
    return nic._replace(dcb=nic.dcb._replace(**fields))  # type: ignore[arg-type]


def gaps(nic: RoceNic) -> list[str]:
    return [str(gap).partition(": ")[2] for gap in plan(nic).gaps]


def test_a_new_nic_gets_all_settings_of_spiderpools_script() -> None:
    assert changes(UNCONFIGURED) == [
        "ens1f0: DSCP to priority 0-7:0 8-15:1 16-23:2 24-31:3 32-39:4 40-47:5 48-55:6 56-63:7",
        "ens1f0: PFC 5",
        "ens1f0: ECN roce_np priority 5",
        "ens1f0: ECN roce_rp priority 5",
        "ens1f0: cnp_802p_prio 6",
        "ens1f0: mlx5_0 traffic_class 160",
        "ens1f0: mlx5_0 default_roce_tos 160",
    ]
    assert gaps(UNCONFIGURED) == []


def test_a_nic_with_all_settings_is_not_changed() -> None:
    assert plan(CONFIGURED) == QosPlan({"ens1f0": QOS})


def test_the_wrong_priority_of_a_dscp_is_replaced() -> None:
    qos = RoceQos(priority=3, dscp=46, traffic_class=186, pfc=(3, 4))
    dcb = DcbSettings(
        frozenset({3}),
        qos.dscp_priorities - {DscpPriority(46, priority=3)} | {DscpPriority(46, priority=5)},
    )

    assert changes(CONFIGURED._replace(dcb=dcb), qos)[:3] == [
        "ens1f0: DSCP to priority 46:3",
        "ens1f0: no DSCP to priority 46:5",
        "ens1f0: PFC 3,4",
    ]


def test_all_dscp_entries_are_removed_from_a_nic_that_trusts_vlan_tags() -> None:
    qos = QOS._replace(trust="pcp", pfc=())

    (removal, pfc) = changes(CONFIGURED, qos)

    assert removal.startswith("ens1f0: no DSCP to priority 0-7:0 8-15:1")
    assert pfc == "ens1f0: PFC off"


@pytest.mark.parametrize(
    ("order", "lines"),
    [(("dscp", "pcp"), []), (("pcp",), ["ens1f0: trust dscp"]), ((), ["ens1f0: trust dscp"])],
)
def test_trust_dscp_is_set_unless_dscp_is_first_in_the_trust_order(
    order: tuple[Trust, ...], lines: list[str]
) -> None:
    assert changes(with_dcb(CONFIGURED, trust=order)) == lines


def test_roce_gets_its_bandwidth_and_cnps_get_strict_priority() -> None:
    qos = QOS._replace(bandwidth=60, pfc=(4, 5))
    one_class = EtsSettings((0,) * 8, (None,) * 8, classes_max=8)
    nic = with_dcb(CONFIGURED, ets=one_class, pfc=frozenset(qos.pfc))

    assert changes(nic, qos) == ["ens1f0: ETS 0,1,2,3,7: 40%, 4,5: 60%, 6: strict"]
    assert qos.ets is not None
    # No priority is in classes 3 and 4, so their bandwidths do not matter.
    driver_ets = qos.ets._replace(bandwidths=(40, 60, None, 100, 100), classes_max=8)
    assert changes(with_dcb(nic, ets=driver_ets), qos) == []


def test_ets_is_not_changed_without_a_bandwidth() -> None:
    one_class = EtsSettings((0,) * 8, (None,) * 8, classes_max=8)

    assert changes(with_dcb(CONFIGURED, ets=one_class)) == []


@pytest.mark.parametrize("ets", [None, EtsSettings((0,) * 8, (None,) * 8, classes_max=2)])
def test_a_bandwidth_needs_three_traffic_classes(ets: EtsSettings | None) -> None:
    result = plan(with_dcb(CONFIGURED, ets=ets), QOS._replace(bandwidth=60))

    assert result.changes == ()
    assert [str(gap) for gap in result.gaps] == [
        "ens1f0: bandwidth: the driver has no ETS with 3 traffic classes"
    ]


def test_a_virtual_function_gets_only_traffic_classes() -> None:
    assert changes(VF_NIC) == [
        "ens1f0v0: mlx5_2 traffic_class 160",
        "ens1f0v0: mlx5_2 default_roce_tos 160",
    ]
    assert gaps(VF_NIC) == []


def test_a_nic_without_dcb_and_ecn_gets_only_the_traffic_class_of_rdma_cm() -> None:
    software_nic = RoceNic(
        "eth0", (RocePort("rxe0", port=1, traffic_class=None, cm_traffic_class=0),)
    )

    assert changes(software_nic) == ["eth0: rxe0 default_roce_tos 160"]
    assert gaps(software_nic) == [
        "trust, PFC: the driver has no DCB",
        "ECN: the driver has no /sys/class/net/*/ecn; install NVIDIA's DOCA-OFED",
        (
            "traffic class of rxe0: the driver has no /sys/class/infiniband/*/tc;"
            " let each program set its traffic class"
        ),
    ]


def test_each_setting_that_a_driver_lacks_is_reported() -> None:
    assert CONFIGURED.ecn is not None
    nic = CONFIGURED._replace(
        ports=(RocePort("mlx5_0", port=1, traffic_class=160),),
        dcb=DcbSettings(None, QOS.dscp_priorities),
        ecn=CONFIGURED.ecn._replace(cnp_priority=None),
    )

    assert changes(nic) == []
    assert gaps(nic) == [
        "PFC: the driver has no PFC by IEEE 802.1Qaz",
        "cnp_802p_prio: the driver has no such file in /sys",
        "RDMA CM of mlx5_0: run modprobe rdma_cm and mount -t configfs none /sys/kernel/config",
    ]


STORAGE = RoceQosRule(QOS._replace(priority=3), nics=("storage*",))
GPU = RoceQosRule(QOS, nics=("ens*f0",), nodes={"network": "roce"})


@pytest.mark.parametrize(
    ("nic", "labels", "rule"),
    [
        (UNCONFIGURED, {"network": "roce", "zone": "a"}, GPU),
        (UNCONFIGURED, {"network": "lan"}, None),
        (UNCONFIGURED._replace(name="ens1f1"), {"network": "roce"}, None),
        (VF_NIC, {"network": "roce"}, GPU),  # ens*f0 matches its master ens1f0.
        (UNCONFIGURED._replace(name="storage0"), {}, STORAGE),
    ],
)
def test_the_first_rule_that_matches_node_and_nic_is_used(
    nic: RoceNic, labels: dict[str, str], rule: RoceQosRule | None
) -> None:
    rules = [
        STORAGE,
        GPU,
        RoceQosRule(QOS._replace(priority=1), nics=("ens1f0*", "storage0"), nodes=GPU.nodes),
    ]

    assert qos_of(rules, labels, nic) == (None if rule is None else rule.qos)
    assert (nic.name in plan_qos(rules, labels=labels, nics=[nic]).desired) is (rule is not None)
