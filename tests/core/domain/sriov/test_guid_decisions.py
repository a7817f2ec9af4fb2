"""Which GUIDs a plan requests, which assignments of GUIDs end, and which GUIDs conflict."""

from __future__ import annotations

import pytest

from core.domain.events import GuidsAssigned, GuidsReleased
from core.domain.sriov.guid_decisions import (
    GuidConflict,
    GuidDecision,
    decide_assignment,
    ended_guids,
    requested_guids,
)
from core.domain.sriov.guid_file import GuidEntry, GuidFile
from core.domain.sriov.model import (
    INFINIBAND,
    VFIO,
    GuidClaim,
    NicName,
    NicSelector,
    NodePolicy,
    PhysicalFunction,
    VfGuid,
    VirtualFunction,
)
from core.domain.sriov.vf_macs_and_guids import default_mac
from core.domain.sriov.vf_plan import NodePlan, plan_node

NIC = PhysicalFunction(
    "ibs1",
    address="0000:3b:00.0",
    vendor="15b3",
    device="101b",
    mac="10:70:fd:03:00:16:05:48",
    vfs_max=8,
    link_type=INFINIBAND,
)
FIRST_GUID, SECOND_GUID = "02:00:00:00:00:00:00:01", "02:00:00:00:00:00:00:02"
FILE = GuidFile(exists=True, entries={NIC.address: GuidEntry((FIRST_GUID, SECOND_GUID))})
NO_FILE = GuidFile()
VF_0_GUID = VfGuid(guid=FIRST_GUID, nic=NIC.address, nic_guid=NIC.mac, vf=0)
VF_1_GUID = VfGuid(guid=SECOND_GUID, nic=NIC.address, nic_guid=NIC.mac, vf=1)


def nic_with_vfs(*guids: str, **fields: object) -> PhysicalFunction:
    """The NIC with one bound virtual function for each GUID in ``guids``."""
    vfs = [
        VirtualFunction(
            number,
            address=f"0000:3b:00.{number + 1}",
            driver="mlx5_core",
            link=f"v{number}",
            mac=guid,
        )
        for number, guid in enumerate(guids)
    ]
    return NIC._replace(vfs=tuple(vf._replace(**fields) for vf in vfs))  # type: ignore[arg-type]


def plan_of(nic: PhysicalFunction, vfs: int = 2, file: GuidFile = FILE) -> NodePlan:
    policy = NodePolicy("ib", "ib", vfs=vfs, nics=NicSelector((NicName("ibs1"),)))
    return plan_node([policy], labels={}, nics=[nic], guid_file=file)


def claim(guid: VfGuid, node: str = "node-1") -> GuidClaim:
    return GuidClaim(node, *guid[1:])


def test_new_virtual_functions_get_the_guids_of_the_file_or_derived_guids() -> None:
    derived_guids = [
        VfGuid(guid=default_mac(NIC, vf), nic=NIC.address, nic_guid=NIC.mac, vf=vf)
        for vf in range(2)
    ]

    assert requested_guids(plan_of(NIC), nics=[NIC], guid_file=FILE) == [VF_0_GUID, VF_1_GUID]
    assert (
        requested_guids(plan_of(NIC, file=NO_FILE), nics=[NIC], guid_file=NO_FILE) == derived_guids
    )


def test_a_nic_is_refused_if_the_file_of_guids_is_too_short_or_faulty() -> None:
    plan_with_short_file = plan_of(NIC, 4)
    plan_with_faulty_file = plan_of(
        NIC, file=GuidFile(exists=True, fault="the file of GUIDs cannot be read: x")
    )

    (refusal,) = plan_with_short_file.refusals
    assert str(refusal) == (
        "policy ib for ibs1: the file of GUIDs has no GUID for 2 virtual functions of the NIC; the"
        " first is virtual function 2; correct /etc/sriov-operator/infiniband/guids"
    )
    assert "cannot be read: x" in str(plan_with_faulty_file.refusals[0])
    assert not plan_with_short_file.actions + plan_with_faulty_file.actions


def test_a_bound_virtual_function_keeps_its_guid_when_the_file_changes() -> None:
    nic = nic_with_vfs(SECOND_GUID, FIRST_GUID)

    assert plan_of(nic).actions == ()
    assert requested_guids(plan_of(nic), nics=[nic], guid_file=FILE) == []


def test_a_guid_that_is_already_set_is_requested_only_if_the_file_has_it() -> None:
    nic = nic_with_vfs(FIRST_GUID, "02:00:00:00:00:00:00:99")

    assert requested_guids(plan_of(nic), nics=[nic], guid_file=FILE) == [VF_0_GUID]


@pytest.mark.parametrize("unset_guid", ["00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff"])
def test_a_bound_virtual_function_without_a_guid_gets_a_guid_and_is_bound_again(
    unset_guid: str,
) -> None:
    plan = plan_of(nic_with_vfs(unset_guid, SECOND_GUID))

    assert [str(action) for action in plan.actions] == [
        f"ibs1 vf 0: mac {FIRST_GUID}",
        "ibs1 vf 0: driver chosen by the kernel",
    ]


def test_the_guid_of_a_new_virtual_function_is_not_requested_before_the_drain() -> None:
    nic = nic_with_vfs(FIRST_GUID, is_used=True)
    plan = plan_of(nic)

    assert plan.drain == ("ibs1",)
    assert requested_guids(plan, nics=[nic], guid_file=FILE) == [VF_0_GUID]


def test_no_guids_are_requested_for_an_ethernet_nic() -> None:
    nic = NIC._replace(link_type="eth", mac="0c:42:a1:00:00:01")

    assert requested_guids(plan_of(nic), nics=[nic], guid_file=FILE) == []


def test_a_guid_ends_when_its_virtual_function_is_removed() -> None:
    plan_with_one_vf = plan_of(nic_with_vfs(FIRST_GUID, SECOND_GUID), 1)

    assert (
        list(
            ended_guids(
                [VF_0_GUID, VF_1_GUID],
                plan=plan_with_one_vf,
                nics=[nic_with_vfs(FIRST_GUID, SECOND_GUID)],
            )
        )
        == []
    )
    assert list(
        ended_guids([VF_0_GUID, VF_1_GUID], plan=plan_with_one_vf, nics=[nic_with_vfs(FIRST_GUID)])
    ) == [(VF_1_GUID, "removed")]


def test_guids_of_missing_virtual_functions_end_unless_the_plan_sets_them_again() -> None:
    assert list(ended_guids([VF_0_GUID, VF_1_GUID], plan=plan_of(NIC), nics=[NIC])) == []
    assert list(ended_guids([VF_0_GUID, VF_1_GUID], plan=NodePlan(), nics=[NIC])) == [
        (VF_0_GUID, "removed"),
        (VF_1_GUID, "removed"),
    ]


def test_a_guid_ends_when_its_virtual_function_has_another_assigned_guid() -> None:
    former_guid = VF_0_GUID._replace(guid="02:00:00:00:00:00:00:99")

    assert list(
        ended_guids([former_guid, VF_0_GUID], plan=NodePlan(), nics=[nic_with_vfs(FIRST_GUID)])
    ) == [(former_guid, "replaced")]


@pytest.mark.parametrize(
    "nics",
    [
        [],
        [nic_with_vfs(FIRST_GUID, mac="", link="", is_used=True)],
        [nic_with_vfs(FIRST_GUID, mac="", link="", driver=VFIO)],
        [nic_with_vfs("0a:0a:0a:0a:0a:0a:0a:0a")],
        [NIC._replace(mac="")],
    ],
    ids=[
        "the NIC has no driver",
        "the function is in a Pod",
        "the function has the driver vfio-pci",
        "ib-kubernetes set the GUID",
        "the NIC was removed during the read",
    ],
)
def test_a_guid_does_not_end_if_no_assigned_guid_of_its_virtual_function_is_read(
    nics: list[PhysicalFunction],
) -> None:
    assert list(ended_guids([VF_0_GUID], plan=NodePlan(), nics=nics)) == []


def test_the_guids_of_a_replaced_nic_end() -> None:
    replacement = nic_with_vfs(FIRST_GUID)._replace(mac="10:70:fd:03:00:ff:ff:ff")

    assert list(ended_guids([VF_0_GUID], plan=NodePlan(), nics=[replacement])) == [
        (VF_0_GUID, "removed")
    ]


def test_free_guids_are_assigned_once_in_one_event() -> None:
    assert decide_assignment("node-1", [VF_0_GUID, VF_1_GUID], {}) == GuidDecision(
        (GuidsAssigned("node-1", (VF_0_GUID, VF_1_GUID)),)
    )
    claims = {FIRST_GUID: claim(VF_0_GUID), SECOND_GUID: claim(VF_1_GUID)}
    assert decide_assignment("node-1", [VF_0_GUID, VF_1_GUID], claims) == GuidDecision()


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_guid_of_another_virtual_function_is_a_conflict(node: str) -> None:
    holder = claim(VF_0_GUID._replace(nic_guid="10:70:fd:03:00:99:99:99"), node)

    decision = decide_assignment("node-1", [VF_0_GUID, VF_1_GUID], {FIRST_GUID: holder})

    assert decision.conflicts == (GuidConflict(VF_0_GUID, holder),)
    assert decision.events == (GuidsAssigned("node-1", (VF_1_GUID,)),)


def test_a_guid_that_is_requested_twice_is_a_conflict() -> None:
    duplicate = VF_1_GUID._replace(guid=FIRST_GUID)

    decision = decide_assignment("node-1", [VF_0_GUID, duplicate], {})

    assert decision.conflicts == (GuidConflict(duplicate, claim(VF_0_GUID)),)


def test_a_nic_that_was_moved_keeps_its_guids() -> None:
    former_guid = VF_0_GUID._replace(nic="0000:86:00.0")

    decision = decide_assignment("node-1", [VF_0_GUID], {FIRST_GUID: claim(former_guid, "node-2")})

    assert decision.events == (
        GuidsReleased("node-2", (former_guid,), "moved"),
        GuidsAssigned("node-1", (VF_0_GUID,)),
    )
