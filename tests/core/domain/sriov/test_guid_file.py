"""The file of GUIDs, in the format of the SR-IOV network operator."""

from __future__ import annotations

import json

import pytest

from core.domain.sriov.guid_file import GuidFile, parse_guid_file
from core.domain.sriov.model import INFINIBAND, PhysicalFunction

NIC = PhysicalFunction(
    "ibs1", address="0000:3b:00.0", mac="10:70:fd:03:00:16:05:48", vfs_max=8, link_type=INFINIBAND
)
LIST = {"guids": ["02:00:00:00:00:00:00:07", "02:00:00:00:00:00:00:01"]}
RANGE = {"guidsRange": {"start": "02:00:00:00:00:aa:00:ff", "end": "02:00:00:00:00:aa:01:00"}}


def parsed(*entries: object) -> GuidFile:
    return parse_guid_file(json.dumps(entries))


@pytest.mark.parametrize(
    "nic",
    [
        {"pci_address": "0000:3b:00.0"},
        {"pciAddress": "0000:3B:00.0"},
        {"pf_guid": "10:70:fd:03:00:16:05:48"},
        {"pfGuid": "0x1070fd0300160548"},
        {"pf_guid": "00:00:10:49:fe:80:00:00:00:00:00:00:10:70:fd:03:00:16:05:48"},
    ],
)
def test_a_nic_is_named_by_its_pci_address_or_its_guid(nic: dict[str, str]) -> None:
    file_with_list, file_with_range = parsed({**nic, **LIST}), parsed({**nic, **RANGE})

    assert [file_with_list.guid_of(NIC, vf) for vf in range(3)] == [*LIST["guids"], None]
    assert [file_with_range.guid_of(NIC, vf) for vf in range(3)] == [
        "02:00:00:00:00:aa:00:ff",
        "02:00:00:00:00:aa:01:00",
        None,
    ]


def test_the_first_entry_for_a_nic_is_used_and_entries_for_other_nics_are_skipped() -> None:
    file = parsed(
        {"pf_guid": "10:70:fd:03:00:99:99:99", **RANGE},
        {"pci_address": NIC.address, **LIST},
        {"pci_address": NIC.address, **RANGE},
    )

    assert file.guid_of(NIC, 0) == LIST["guids"][0]
    assert file.guid_of(NIC._replace(address="0000:86:00.0"), 0) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "cannot be read"),
        ("{}", "not a list"),
        ("[1]", "entry 0 is not an object"),
        (json.dumps([LIST]), "entry 0: it must have exactly one of pci_address and pf_guid"),
        (json.dumps([{"pci_address": "a", "pf_guid": "b", **LIST}]), "exactly one of pci_address"),
        (json.dumps([{"pci_address": "a"}]), "one of guids and guidsRange"),
        (json.dumps([{"pci_address": "a", **LIST, **RANGE}]), "one of guids and guidsRange"),
        (json.dumps([{"pci_address": 7, **LIST}]), "is not a string"),
        (json.dumps([{"pci_address": "a", "guids": "x"}]), "guids must be a list"),
        (json.dumps([{"pci_address": "a", "guids": ["02:00"]}]), "'02:00' is not an"),
        (json.dumps([{"pci_address": "a", "guids": ["ff" * 8]}]), "is not an InfiniBand GUID"),
        (
            json.dumps([{"pci_address": "a", "guidsRange": {"start": "02" * 8, "end": "01" * 8}}]),
            "ends before it starts",
        ),
        (
            json.dumps([{"pci_address": "a", "guidsRange": {"start": "02" * 8}}]),
            "is not an InfiniBand GUID",
        ),
    ],
)
def test_a_malformed_file_has_no_guids_and_a_fault(text: str, fault: str) -> None:
    file = parse_guid_file(text)

    assert file.exists
    assert fault in file.fault
    assert file.guid_of(NIC, 0) is None
