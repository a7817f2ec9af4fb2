"""GUIDs of a plan: what is requested, what has ended, and who has a GUID already."""

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
from core.domain.sriov.plan import NodePlan, default_mac, plan_node

NIC = PhysicalFunction(
    *("ibs1", "0000:3b:00.0", "15b3", "101b", "10:70:fd:03:00:16:05:48"),
    vfs_max=8,
    link_type=INFINIBAND,
)
FIRST, SECOND = "02:00:00:00:00:00:00:01", "02:00:00:00:00:00:00:02"
FILE = GuidFile(True, {NIC.address: GuidEntry((FIRST, SECOND))})
NO_FILE = GuidFile()
ZERO = VfGuid(FIRST, NIC.address, NIC.mac, 0)
ONE = VfGuid(SECOND, NIC.address, NIC.mac, 1)


def bound(*macs: str, **fields: object) -> PhysicalFunction:
    """The NIC with bound virtual functions of these GUIDs."""
    vfs = [
        VirtualFunction(number, f"0000:3b:00.{number + 1}", "mlx5_core", f"v{number}", mac)
        for number, mac in enumerate(macs)
    ]
    return NIC._replace(vfs=tuple(vf._replace(**fields) for vf in vfs))  # type: ignore[arg-type]


def planned(nic: PhysicalFunction, vfs: int = 2, file: GuidFile = FILE) -> NodePlan:
    policy = NodePolicy("ib", "ib", vfs, NicSelector((NicName("ibs1"),)))
    return plan_node([policy], {}, [nic], guid_file=file)


def claim(guid: VfGuid, node: str = "node-1") -> GuidClaim:
    return GuidClaim(node, *guid[1:])


def test_new_virtual_functions_get_the_guids_of_the_file_or_derived_ones() -> None:
    derived = [VfGuid(default_mac(NIC, vf), NIC.address, NIC.mac, vf) for vf in range(2)]

    assert requested_guids(planned(NIC), [NIC], FILE) == [ZERO, ONE]
    assert requested_guids(planned(NIC, file=NO_FILE), [NIC], NO_FILE) == derived


def test_a_file_without_enough_guids_refuses_the_nic_and_a_faulty_one_every_nic() -> None:
    few = planned(NIC, 4)
    faulty = planned(NIC, file=GuidFile(True, fault="the file of GUIDs cannot be read: x"))

    (refusal,) = few.refusals
    assert str(refusal) == (
        "policy ib for ibs1: the file of GUIDs has none for 2 of its virtual functions, the first"
        " of which is 2; correct /etc/sriov-operator/infiniband/guids"
    )
    assert "cannot be read: x" in str(faulty.refusals[0])
    assert not few.actions + faulty.actions


def test_a_bound_virtual_function_keeps_its_guid_whatever_the_file_says_later() -> None:
    nic = bound(SECOND, FIRST)

    assert planned(nic).actions == ()
    assert requested_guids(planned(nic), [nic], FILE) == []


def test_a_guid_that_an_earlier_agent_has_set_is_recorded() -> None:
    nic = bound(FIRST, "02:00:00:00:00:00:00:99")

    assert requested_guids(planned(nic), [nic], FILE) == [ZERO]


@pytest.mark.parametrize("unset", ["00:00:00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff:ff:ff"])
def test_a_bound_virtual_function_without_a_guid_gets_one_and_its_driver_reads_it(
    unset: str,
) -> None:
    plan = planned(bound(unset, SECOND))

    assert [str(action) for action in plan.actions] == [
        f"ibs1 vf 0: mac {FIRST}",
        "ibs1 vf 0: driver of the kernel",
    ]


def test_guids_of_a_change_that_waits_for_pods_are_not_requested_yet() -> None:
    nic = bound(FIRST, is_used=True)
    plan = planned(nic)

    assert plan.drain == ("ibs1",)
    assert requested_guids(plan, [nic], FILE) == [ZERO]


def test_ethernet_has_no_guids() -> None:
    nic = NIC._replace(link_type="eth", mac="0c:42:a1:00:00:01")

    assert requested_guids(planned(nic), [nic], FILE) == []


def test_a_guid_ends_with_its_virtual_function() -> None:
    fewer = planned(bound(FIRST, SECOND), 1)

    assert list(ended_guids([ZERO, ONE], fewer, [bound(FIRST, SECOND)])) == []
    assert list(ended_guids([ZERO, ONE], fewer, [bound(FIRST)])) == [(ONE, "removed")]


def test_a_guid_that_is_set_again_after_a_boot_stays() -> None:
    assert list(ended_guids([ZERO, ONE], planned(NIC), [NIC])) == []
    assert list(ended_guids([ZERO, ONE], NodePlan(), [NIC])) == [
        (ZERO, "removed"),
        (ONE, "removed"),
    ]


def test_a_guid_ends_when_the_virtual_function_has_the_one_that_follows_it() -> None:
    former = ZERO._replace(guid="02:00:00:00:00:00:00:99")

    assert list(ended_guids([former, ZERO], NodePlan(), [bound(FIRST)])) == [(former, "replaced")]


@pytest.mark.parametrize(
    "nics",
    [
        [],
        [bound(FIRST, mac="", link="", is_used=True)],
        [bound(FIRST, mac="", link="", driver=VFIO)],
        [bound("0a:0a:0a:0a:0a:0a:0a:0a")],
        [NIC._replace(mac="")],
    ],
    ids=["no driver of the card", "in a Pod", "vfio-pci", "of ib-kubernetes", "gone while read"],
)
def test_a_guid_stays_if_its_virtual_function_is_hidden(nics: list[PhysicalFunction]) -> None:
    assert list(ended_guids([ZERO], NodePlan(), nics)) == []


def test_guids_of_a_replaced_nic_end() -> None:
    other = bound(FIRST)._replace(mac="10:70:fd:03:00:ff:ff:ff")

    assert list(ended_guids([ZERO], NodePlan(), [other])) == [(ZERO, "removed")]


def test_free_guids_are_assigned_in_one_event_and_no_second_time() -> None:
    assert decide_assignment("node-1", [ZERO, ONE], {}) == GuidDecision(
        (GuidsAssigned("node-1", (ZERO, ONE)),)
    )
    held = {FIRST: claim(ZERO), SECOND: claim(ONE)}
    assert decide_assignment("node-1", [ZERO, ONE], held) == GuidDecision()


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_guid_of_another_virtual_function_is_a_conflict(node: str) -> None:
    holder = claim(ZERO._replace(nic_guid="10:70:fd:03:00:99:99:99"), node)

    decision = decide_assignment("node-1", [ZERO, ONE], {FIRST: holder})

    assert decision.conflicts == (GuidConflict(ZERO, holder),)
    assert decision.events == (GuidsAssigned("node-1", (ONE,)),)


def test_a_guid_that_is_requested_twice_is_a_conflict() -> None:
    again = ONE._replace(guid=FIRST)

    decision = decide_assignment("node-1", [ZERO, again], {})

    assert decision.conflicts == (GuidConflict(again, claim(ZERO)),)


def test_a_nic_that_was_moved_keeps_its_guids() -> None:
    before = ZERO._replace(nic="0000:86:00.0")

    decision = decide_assignment("node-1", [ZERO], {FIRST: claim(before, "node-2")})

    assert decision.events == (
        GuidsReleased("node-2", (before,), "moved"),
        GuidsAssigned("node-1", (ZERO,)),
    )
