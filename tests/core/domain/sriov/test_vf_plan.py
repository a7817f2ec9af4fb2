"""The plan for the virtual functions of a node: actions and refusals."""

from __future__ import annotations

import pytest

from core.domain.sriov.model import (
    INFINIBAND,
    SWITCHDEV,
    VFIO,
    NicName,
    NicSelector,
    NodePolicy,
    PhysicalFunction,
    PolicyProblem,
    VfRange,
    VirtualFunction,
    parse_nic_name,
    policy_problems,
)
from core.domain.sriov.vf_macs_and_guids import default_mac
from core.domain.sriov.vf_plan import (
    Action,
    BindDriver,
    DesiredNic,
    NodePlan,
    SetEswitchMode,
    SetMtu,
    SetVfCount,
    SetVfMac,
    SetVfSpoofCheck,
    SetVfTrust,
    VfGroup,
    plan_node,
)

RAIL = PhysicalFunction(
    "ens1f0",
    address="0000:3b:00.0",
    vendor="15b3",
    device="1017",
    mac="0c:42:a1:00:00:01",
    vfs_max=16,
)
OTHER = RAIL._replace(name="ens1f1", address="0000:3b:00.1", mac="0c:42:a1:00:00:02")
LABELS = {"network": "sriov"}


def named(*names: str) -> NicSelector:
    parsed = [parse_nic_name(name) for name in names]
    return NicSelector(tuple(name for name in parsed if name is not None))


def policy(name: str = "roce", vfs: int = 2, *names: str) -> NodePolicy:
    """A policy for the NICs ``names`` (default: ``ens1f0``). ``name`` also names the resource."""
    return NodePolicy(name, name, vfs=vfs, nics=named(*(names or ("ens1f0",))))


def lines(plan: NodePlan) -> list[str]:
    return [*map(str, plan.actions), *map(str, plan.refusals)]


def vfs(count: int, **fields: object) -> tuple[VirtualFunction, ...]:
    """Virtual functions that are bound to the kernel driver."""
    functions = [
        VirtualFunction(
            number,
            address=f"0000:3b:02.{number}",
            driver="mlx5_core",
            mac=f"02:00:00:00:00:{number:02x}",
        )
        for number in range(count)
    ]
    return tuple(vf._replace(**fields) for vf in functions)  # type: ignore[arg-type]


def nic_after(nic: PhysicalFunction, actions: tuple[Action, ...]) -> PhysicalFunction:
    for action in actions:
        if action.address != nic.address:
            continue
        match action:
            case SetVfCount(vfs=count):
                nic = nic._replace(vfs=vfs(count, driver="", mac="", mtu=1_500))
            case SetEswitchMode(mode=mode):
                assert not nic.vfs, "an eswitch with virtual functions cannot change its mode"
                nic = nic._replace(eswitch_mode=mode)
            case SetMtu(vf=None, mtu=mtu):
                nic = nic._replace(mtu=mtu)
            case SetMtu(vf=number, mtu=mtu):
                nic = with_vf_fields(nic, number, mtu=mtu)
            case SetVfMac(vf=number, mac=mac):
                nic = with_vf_fields(nic, number, mac=mac)
            case SetVfTrust(vf=number, trust=trust):
                nic = with_vf_fields(nic, number, trust=trust)
            case SetVfSpoofCheck(vf=number, spoof_check=spoof_check):
                nic = with_vf_fields(nic, number, spoof_check=spoof_check)
            case BindDriver(vf=number, driver=driver):
                nic = with_vf_fields(nic, number, driver=driver or "mlx5_core")
    return nic


def with_vf_fields(nic: PhysicalFunction, number: int | None, **fields: object) -> PhysicalFunction:
    vfs_after = (
        vf._replace(**fields) if vf.number == number else vf  # type: ignore[arg-type]
        for vf in nic.vfs
    )
    return nic._replace(vfs=tuple(vfs_after))


def test_virtual_functions_are_created_with_macs_and_mtu() -> None:
    node_policy = policy()._replace(mtu=9_000)

    plan = plan_node([node_policy], labels={}, nics=[RAIL, OTHER])

    assert lines(plan) == [
        "ens1f0: mtu 9000",
        "ens1f0: numVfs 2",
        f"ens1f0 vf 0: mac {default_mac(RAIL, 0)}",
        "ens1f0 vf 0: driver chosen by the kernel",
        "ens1f0 vf 0: mtu 9000",
        f"ens1f0 vf 1: mac {default_mac(RAIL, 1)}",
        "ens1f0 vf 1: driver chosen by the kernel",
        "ens1f0 vf 1: mtu 9000",
    ]
    group = VfGroup("roce", policy="roce", vfs=VfRange(0, last=1), mtu=9_000)
    assert plan.desired == (DesiredNic("ens1f0", RAIL.address, vfs=2, mtu=9_000, groups=(group,)),)


def test_trust_and_spoof_check_are_set_before_a_driver_binds() -> None:
    plan = plan_node(
        [policy(vfs=1)._replace(trust=True, spoof_check=False)], labels={}, nics=[RAIL]
    )

    assert lines(plan) == [
        "ens1f0: numVfs 1",
        f"ens1f0 vf 0: mac {default_mac(RAIL, 0)}",
        "ens1f0 vf 0: trust on",
        "ens1f0 vf 0: spoofChk off",
        "ens1f0 vf 0: driver chosen by the kernel",
    ]


def test_trust_of_a_free_virtual_function_is_changed_only_if_the_policy_sets_trust() -> None:
    """The CNI plugin sriov sets trust while a Pod uses the virtual function."""
    free_vf, used_vf = vfs(2, trust=True, spoof_check=False)
    nic = RAIL._replace(vfs=(free_vf, used_vf._replace(is_used=True)))

    assert lines(plan_node([policy()._replace(trust=False)], labels={}, nics=[nic])) == [
        "ens1f0 vf 0: trust off"
    ]
    assert lines(plan_node([policy()], labels={}, nics=[nic])) == []


def test_each_range_of_a_nic_can_have_its_own_trust() -> None:
    policies = [
        policy("router", 4, "ens1f0#0-1")._replace(trust=True),
        policy("guest", 4, "ens1f0#2-3"),
    ]

    plan = plan_node(
        policies, labels={}, nics=[RAIL._replace(vfs=vfs(4, trust=False, spoof_check=True))]
    )

    assert lines(plan) == ["ens1f0 vf 0: trust on", "ens1f0 vf 1: trust on"]


def test_a_policy_with_trust_is_refused_for_infiniband_and_planned_for_ethernet() -> None:
    node_policy = policy()._replace(nics=NicSelector(vendor="15b3"), trust=True)

    plan = plan_node([node_policy], labels={}, nics=[RAIL, OTHER._replace(link_type=INFINIBAND)])

    assert [nic.nic for nic in plan.desired] == ["ens1f0"]
    (refusal,) = plan.refusals
    assert str(refusal) == (
        "policy roce for ens1f1: trust and spoofChk exist only for Ethernet, and the NIC is"
        " InfiniBand; remove trust and spoofChk from the policy, or set linkType eth"
    )
    (problem,) = policy_problems(node_policy._replace(link_type=INFINIBAND))
    assert problem == PolicyProblem("linkType", "trust and spoofChk exist only for Ethernet")


def test_default_hardware_addresses_are_local_unicast_unique_and_stable() -> None:
    macs = {default_mac(nic, number) for nic in (RAIL, OTHER) for number in range(16)}

    assert len(macs) == 32
    assert all(int(mac[:2], 16) & 0x03 == 0x02 for mac in macs)
    assert default_mac(RAIL, 3) == default_mac(RAIL._replace(mtu=9_000), 3)
    guid = default_mac(RAIL._replace(link_type=INFINIBAND), 0)
    assert len(guid.split(":")) == 8


@pytest.mark.parametrize(
    "node_policy",
    [
        policy(),
        policy()._replace(mtu=9_000, eswitch_mode=SWITCHDEV),
        policy("dpdk", 4)._replace(device_type=VFIO),
        policy("router", 4)._replace(trust=True, spoof_check=False),
        policy("guest", 4)._replace(trust=False, spoof_check=True),
        policy("rdma", 8, "ens1f0#2-5")._replace(is_rdma=True),
        policy("none", 0),
    ],
)
@pytest.mark.parametrize("vfs_before", [0, 2, 5])
def test_the_next_plan_has_no_actions_after_a_plan_was_carried_out(
    node_policy: NodePolicy, vfs_before: int
) -> None:
    nic = RAIL._replace(vfs=vfs(vfs_before))

    plan = plan_node([node_policy], labels={}, nics=[nic])
    next_plan = plan_node([node_policy], labels={}, nics=[nic_after(nic, plan.actions)])

    assert plan.refusals == ()
    assert next_plan.actions == ()
    assert next_plan.desired == plan.desired


def test_a_change_of_num_vfs_drains_the_nic_and_removes_all_virtual_functions() -> None:
    nic = RAIL._replace(vfs=(*vfs(1), *vfs(4, is_used=True)[1:]))

    plan = plan_node([policy(vfs=6)], labels={}, nics=[nic])

    assert lines(plan)[:2] == ["ens1f0: numVfs 0", "ens1f0: numVfs 6"]
    assert plan.drain == ("ens1f0",)


def test_an_interrupted_plan_is_completed_for_a_virtual_function_without_a_driver() -> None:
    nic = RAIL._replace(vfs=(*vfs(1), *vfs(2, driver="")[1:]))

    assert lines(plan_node([policy()], labels={}, nics=[nic])) == [
        f"ens1f0 vf 1: mac {default_mac(RAIL, 1)}",
        "ens1f0 vf 1: driver chosen by the kernel",
    ]


def test_an_interrupted_plan_is_completed_for_virtual_functions_outside_of_the_range() -> None:
    nic = RAIL._replace(vfs=(*vfs(1, driver="", mac=""), *vfs(2)[1:]))
    node_policy = policy("rdma", 2, "ens1f0#1-1")

    assert lines(plan_node([node_policy], labels={}, nics=[nic])) == [
        f"ens1f0 vf 0: mac {default_mac(RAIL, 0)}",
        "ens1f0 vf 0: driver chosen by the kernel",
    ]
    assert (
        plan_node([node_policy._replace(externally_managed=True)], labels={}, nics=[nic]).actions
        == ()
    )


def test_virtual_functions_outside_of_the_range_get_the_kernel_driver_once() -> None:
    plan = plan_node([policy("rdma", 2, "ens1f0#1-1")], labels={}, nics=[RAIL])
    next_plan = plan_node(
        [policy("rdma", 2, "ens1f0#1-1")], labels={}, nics=[RAIL._replace(vfs=vfs(2))]
    )

    assert "ens1f0 vf 0: driver chosen by the kernel" in lines(plan)
    assert next_plan.actions == ()


def test_a_virtual_function_of_a_pod_is_not_changed() -> None:
    nic = RAIL._replace(vfs=vfs(2, is_used=True, mac="00:00:00:00:00:00"))

    assert plan_node([policy()._replace(device_type=VFIO)], labels={}, nics=[nic]).actions == ()


def test_virtual_functions_are_removed_before_the_eswitch_mode_changes() -> None:
    nic = RAIL._replace(vfs=vfs(2))

    plan = plan_node([policy()._replace(eswitch_mode=SWITCHDEV)], labels={}, nics=[nic])

    assert lines(plan)[:3] == [
        "ens1f0: numVfs 0",
        "ens1f0: eSwitchMode switchdev",
        "ens1f0: numVfs 2",
    ]


@pytest.mark.parametrize("modes", [("", SWITCHDEV), (SWITCHDEV, "")])
def test_a_policy_without_an_eswitch_mode_accepts_the_mode_of_another_policy(
    modes: tuple[str, str],
) -> None:
    policies = [
        policy(name, 4, f"ens1f0#{vfs}")._replace(eswitch_mode=mode)
        for name, vfs, mode in zip("ab", ("0-1", "2-3"), modes, strict=True)
    ]

    plan = plan_node(policies, labels={}, nics=[RAIL])

    assert plan.refusals == ()
    assert plan.desired[0].eswitch_mode == SWITCHDEV


def test_two_eswitch_modes_of_one_nic_are_refused() -> None:
    policies = [
        policy("a", 4, "ens1f0#0-1")._replace(eswitch_mode=SWITCHDEV),
        policy("b", 4, "ens1f0#2-3")._replace(eswitch_mode="legacy"),
    ]

    (refusal,) = plan_node(policies, labels={}, nics=[RAIL]).refusals

    assert refusal.reason == "eSwitchMode is legacy, and policy a sets switchdev"


def test_each_range_of_a_nic_can_be_its_own_resource() -> None:
    kernel = policy("kernel", 4, "ens1f0#0-1")
    dpdk = policy("dpdk", 4, "ens1f0#2-3")._replace(device_type=VFIO)

    plan = plan_node([dpdk, kernel], labels={}, nics=[RAIL._replace(vfs=vfs(4))])

    assert lines(plan) == ["ens1f0 vf 2: driver vfio-pci", "ens1f0 vf 3: driver vfio-pci"]
    assert [(group.resource, str(group.vfs)) for group in plan.desired[0].groups] == [
        ("dpdk", "2-3"),
        ("kernel", "0-1"),
    ]


def test_the_policy_with_the_lower_priority_number_takes_precedence() -> None:
    preferred = policy("second-by-name", 4)._replace(priority=10)
    other = policy("first-by-name", 8)._replace(priority=20)

    plan = plan_node([other, preferred], labels={}, nics=[RAIL])

    assert plan.desired[0].vfs == 4
    (refusal,) = plan.refusals
    assert str(refusal) == (
        "policy first-by-name for ens1f0: numVfs is 8, and policy second-by-name sets 4;"
        " make both policies agree, or select other NICs"
    )


def test_a_range_that_overlaps_the_range_of_an_earlier_policy_is_refused() -> None:
    plan = plan_node(
        [policy("a", 8, "ens1f0#0-4"), policy("b", 8, "ens1f0#4-7")], labels={}, nics=[RAIL]
    )

    assert [group.policy for group in plan.desired[0].groups] == ["a"]
    assert "virtual functions 4-7 overlap with 0-4 of policy a" in lines(plan)[-1]


def test_a_policy_applies_only_to_nodes_with_its_labels() -> None:
    node_policy = policy()._replace(nodes=LABELS)

    assert plan_node([node_policy], labels=LABELS | {"rack": "7"}, nics=[RAIL]).actions
    assert plan_node([node_policy], labels={"rack": "7"}, nics=[RAIL]) == NodePlan()


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (NicSelector(vendor="15b3"), True),
        (NicSelector(vendor="8086"), False),
        (NicSelector(vendor="15b3", device="1017"), True),
        (NicSelector(root_devices=("0000:3b:00.0",)), True),
        (NicSelector(root_devices=("0000:3b:00.1",)), False),
        (NicSelector((NicName("ens1f0"),), vendor="8086"), False),
        (NicSelector((NicName("ens9"),)), False),
    ],
)
def test_every_field_of_the_selector_must_match(selector: NicSelector, matches: bool) -> None:
    plan = plan_node([policy()._replace(nics=selector)], labels={}, nics=[RAIL])

    assert bool(plan.desired) is matches


def test_a_policy_for_infiniband_changes_no_ethernet_nic() -> None:
    node_policy = policy()._replace(nics=NicSelector(vendor="15b3"), link_type=INFINIBAND)

    plan = plan_node([node_policy], labels={}, nics=[RAIL, OTHER._replace(link_type=INFINIBAND)])

    assert [nic.nic for nic in plan.desired] == ["ens1f1"]


@pytest.mark.parametrize(
    "node_policy",
    [policy(), policy()._replace(mtu=9_000), policy()._replace(eswitch_mode=SWITCHDEV)],
)
def test_the_uplink_of_the_node_is_not_changed(node_policy: NodePolicy) -> None:
    uplink = RAIL._replace(is_uplink=True)
    other_policy = policy("free", 2, "ens1f1")

    plan = plan_node([node_policy, other_policy], labels={}, nics=[uplink, OTHER])

    assert {action.nic for action in plan.actions} == {"ens1f1"}
    assert [nic.nic for nic in plan.desired] == ["ens1f1"]
    assert "carries the node's own traffic" in str(plan.refusals[0])


def test_existing_virtual_functions_of_an_uplink_are_used() -> None:
    uplink = RAIL._replace(is_uplink=True, vfs=vfs(2))

    plan = plan_node([policy()._replace(device_type=VFIO)], labels={}, nics=[uplink])

    assert lines(plan) == ["ens1f0 vf 0: driver vfio-pci", "ens1f0 vf 1: driver vfio-pci"]


def test_more_virtual_functions_than_the_nic_supports_are_refused() -> None:
    (refusal,) = lines(plan_node([policy(vfs=17)], labels={}, nics=[RAIL]))

    assert refusal == (
        "policy roce for ens1f0: numVfs is 17, and the NIC can have at most 16;"
        " lower numVfs, or raise the limit in the NIC's firmware"
    )


def test_externally_managed_virtual_functions_are_used_when_they_exist() -> None:
    node_policy = policy()._replace(externally_managed=True)

    without_vfs = plan_node([node_policy], labels={}, nics=[RAIL])
    with_vfs = plan_node([node_policy], labels={}, nics=[RAIL._replace(vfs=vfs(2))])

    assert "externallyManaged, and the NIC has 0 of 2" in lines(without_vfs)[0]
    assert (with_vfs.actions, len(with_vfs.desired)) == ((), 1)


def test_without_a_policy_only_managed_nics_lose_their_virtual_functions() -> None:
    managed_nic, foreign_nic = (nic._replace(vfs=vfs(2)) for nic in (RAIL, OTHER))

    plan = plan_node([], labels={}, nics=[managed_nic, foreign_nic], managed={managed_nic.address})

    assert lines(plan) == ["ens1f0: numVfs 0"]


def test_each_faulty_field_of_a_policy_is_refused_and_a_valid_policy_is_planned() -> None:
    faulty = NodePolicy(
        "faulty", "a/b", vfs=4, nics=named("ens1f1#2-4"), priority=100, device_type="uio"
    )

    plan = plan_node([faulty, policy()], labels={}, nics=[RAIL, OTHER])

    fields = [problem.field for problem in policy_problems(faulty)]
    assert fields == ["priority", "deviceType", "resourceName", "nicSelector.pfNames"]
    assert len(plan.refusals) == 4
    assert [nic.nic for nic in plan.desired] == ["ens1f0"]


def test_a_policy_with_an_empty_selector_is_refused() -> None:
    (problem,) = policy_problems(policy()._replace(nics=NicSelector()))

    assert problem == PolicyProblem(
        "nicSelector", "it selects no NIC; set pfNames, rootDevices, vendor or deviceID"
    )


@pytest.mark.parametrize("text", ["", "ens1f0#", "ens1f0#3", "ens1f0#4-2", "a b", "ens1f0#0-99999"])
def test_a_malformed_nic_name_is_reported(text: str) -> None:
    assert parse_nic_name(text) is None


def test_the_order_of_policies_and_nics_does_not_change_the_plan() -> None:
    nics = [
        RAIL._replace(
            name=f"rail{number}",
            address=f"0000:{number:02x}:00.0",
            mac=f"0c:42:a1:00:01:{number:02x}",
        )
        for number in range(8)
    ]
    policies = [
        policy(f"p{number}", 16, f"rail{number}")._replace(mtu=9_000) for number in range(8)
    ]

    plan = plan_node(policies, labels={}, nics=nics)

    assert plan == plan_node(policies[::-1], labels={}, nics=nics[::-1])
    # Each NIC has 2 actions. Each of its 16 virtual functions has 3 actions.
    assert len(plan.actions) == 8 * (2 + 16 * 3)
