"""The plan for a node's RoCE NICs: changes in their order, gaps of drivers, and which NICs."""

from __future__ import annotations

import pytest

from core.domain.roce_qos.model import (
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
from core.domain.roce_qos.plan import QosPlan, plan_qos

QOS = RoceQos()
NO_PRIORITIES: frozenset[int] = frozenset()
NEW = RoceNic(
    "ens1f0",
    (RocePort("mlx5_0", 1, UNSET, UNSET),),
    DcbSettings(NO_PRIORITIES),
    EcnSettings(NO_PRIORITIES, NO_PRIORITIES, 48, 7),
)
DONE = RoceNic(
    "ens1f0",
    (RocePort("mlx5_0", 1, 160, 160),),
    DcbSettings(frozenset({5}), QOS.dscp_priorities),
    EcnSettings(frozenset({3, 5}), frozenset({5}), 48, 6),
)
OF_A_VF = RoceNic("ens1f0v0", (RocePort("mlx5_2", 1, UNSET, 0),), master="ens1f0", has_port=False)


def plan(nic: RoceNic, qos: RoceQos = QOS) -> QosPlan:
    return plan_qos([RoceQosRule(qos)], {}, [nic])


def changes(nic: RoceNic, qos: RoceQos = QOS) -> list[str]:
    return [str(change) for change in plan(nic, qos).changes]


def gaps(nic: RoceNic) -> list[str]:
    return [str(gap).partition(": ")[2] for gap in plan(nic).gaps]


def test_a_new_nic_gets_all_settings_of_spiderpools_script() -> None:
    assert changes(NEW) == [
        "ens1f0: DSCP to priority 0-7:0 8-15:1 16-23:2 24-31:3 32-39:4 40-47:5 48-55:6 56-63:7",
        "ens1f0: PFC 5",
        "ens1f0: ECN roce_np priority 5",
        "ens1f0: ECN roce_rp priority 5",
        "ens1f0: cnp_802p_prio 6",
        "ens1f0: mlx5_0 traffic_class 160",
        "ens1f0: mlx5_0 default_roce_tos 160",
    ]
    assert gaps(NEW) == []


def test_a_nic_with_all_settings_is_not_changed() -> None:
    assert plan(DONE) == QosPlan({"ens1f0": QOS})


def test_dscps_may_belong_to_any_priority_and_entries_of_others_are_removed() -> None:
    qos = RoceQos(priority=3, dscp=46, traffic_class=186, pfc=(3, 4))
    has = DcbSettings(
        frozenset({3}), qos.dscp_priorities - {DscpPriority(46, 3)} | {DscpPriority(46, 5)}
    )

    assert changes(DONE._replace(dcb=has), qos)[:3] == [
        "ens1f0: DSCP to priority 46:3",
        "ens1f0: no DSCP to priority 46:5",
        "ens1f0: PFC 3,4",
    ]


def test_a_nic_that_shall_trust_vlan_tags_has_no_entry_for_dscps() -> None:
    qos = QOS._replace(trust="pcp", pfc=())

    (removal, pfc) = changes(DONE, qos)

    assert removal.startswith("ens1f0: no DSCP to priority 0-7:0 8-15:1")
    assert pfc == "ens1f0: PFC off"


@pytest.mark.parametrize(
    ("order", "lines"),
    [(("dscp", "pcp"), []), (("pcp",), ["ens1f0: trust dscp"]), ((), ["ens1f0: trust dscp"])],
)
def test_a_driver_with_an_order_of_trust_looks_at_dscps_first(
    order: tuple[Trust, ...], lines: list[str]
) -> None:
    assert DONE.dcb is not None

    assert changes(DONE._replace(dcb=DONE.dcb._replace(trust=order))) == lines


def test_a_bandwidth_is_shared_by_classes_for_roce_and_the_rest_after_cnps() -> None:
    qos = QOS._replace(bandwidth=60, pfc=(4, 5))
    single = EtsSettings((0,) * 8, (None,) * 8, 8)
    assert DONE.dcb is not None
    nic = DONE._replace(dcb=DONE.dcb._replace(ets=single, pfc=frozenset(qos.pfc)))

    assert changes(nic, qos) == ["ens1f0: ETS 0,1,2,3,7: 40%, 4,5: 60%, 6: strict"]
    assert qos.ets is not None
    done = qos.ets._replace(bandwidths=(40, 60, None, 100, 100), classes_max=8)
    assert changes(nic._replace(dcb=nic.dcb and nic.dcb._replace(ets=done)), qos) == []
    assert changes(nic._replace(dcb=nic.dcb and nic.dcb._replace(pfc=frozenset({5})))) == []


@pytest.mark.parametrize("ets", [None, EtsSettings((0,) * 8, (None,) * 8, 2)])
def test_a_bandwidth_needs_three_traffic_classes(ets: EtsSettings | None) -> None:
    nic = DONE._replace(dcb=DONE.dcb and DONE.dcb._replace(ets=ets))

    asked = plan(nic, QOS._replace(bandwidth=60))

    assert asked.changes == ()
    assert [str(gap) for gap in asked.gaps] == [
        "ens1f0: bandwidth: the driver has no ETS with 3 traffic classes"
    ]


def test_a_virtual_function_has_traffic_classes_only() -> None:
    assert changes(OF_A_VF) == [
        "ens1f0v0: mlx5_2 traffic_class 160",
        "ens1f0v0: mlx5_2 default_roce_tos 160",
    ]
    assert gaps(OF_A_VF) == []


def test_settings_that_a_driver_lacks_are_reported_and_the_others_are_made() -> None:
    soft = RoceNic("eth0", (RocePort("rxe0", 1, None, 0),))

    assert changes(soft) == ["eth0: rxe0 default_roce_tos 160"]
    assert gaps(soft) == [
        "trust, PFC: the driver has no DCB",
        "ECN: the driver has no /sys/class/net/*/ecn; NVIDIA's DOCA-OFED has it",
        (
            "traffic class of rxe0: the driver has no /sys/class/infiniband/*/tc;"
            " programs choose it themselves"
        ),
    ]


def test_each_setting_that_a_driver_lacks_is_reported() -> None:
    assert DONE.ecn is not None
    nic = DONE._replace(
        ports=(RocePort("mlx5_0", 1, 160),),
        dcb=DcbSettings(None, QOS.dscp_priorities),
        ecn=DONE.ecn._replace(cnp_priority=None),
    )

    assert changes(nic) == []
    assert gaps(nic) == [
        "PFC: the driver has no PFC by IEEE 802.1Qaz",
        "cnp_802p_prio: the driver has no such file in /sys",
        "RDMA CM of mlx5_0: modprobe rdma_cm, and mount -t configfs none /sys/kernel/config",
    ]


STORAGE = RoceQosRule(QOS._replace(priority=3), ("storage*",))
GPU = RoceQosRule(QOS, ("ens*f0",), {"network": "roce"})


@pytest.mark.parametrize(
    ("nic", "labels", "rule"),
    [
        (NEW, {"network": "roce", "zone": "a"}, GPU),
        (NEW, {"network": "lan"}, None),
        (NEW._replace(name="ens1f1"), {"network": "roce"}, None),
        (OF_A_VF, {"network": "roce"}, GPU),
        (NEW._replace(name="storage0"), {}, STORAGE),
    ],
)
def test_the_first_rule_for_the_node_and_the_nic_counts(
    nic: RoceNic, labels: dict[str, str], rule: RoceQosRule | None
) -> None:
    rules = [
        STORAGE,
        GPU,
        RoceQosRule(QOS._replace(priority=1), ("ens1f0*", "storage0"), GPU.nodes),
    ]

    assert qos_of(rules, labels, nic) == (rule and rule.qos)
    assert (nic.name in plan_qos(rules, labels, [nic]).desired) is (rule is not None)
