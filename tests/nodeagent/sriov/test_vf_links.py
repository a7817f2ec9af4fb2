"""Netlink messages for settings of virtual functions have the layout of if_link.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EOPNOTSUPP
from pathlib import Path
from typing import cast

import pytest

from core.errors import DatapathError, NetlinkRefused
from nodeagent.netlink.codec import attribute, attributes, elements, nested
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.requests import IFINFOMSG, Request
from nodeagent.netlink.values import Link
from nodeagent.sriov.vf_links import KernelVfLinks, VfSettings, settings_of_vfs

RECORDED = Path(__file__).parent / "recorded/igb-link.txt"
# Attribute types of if_link.h.
VFINFO_LIST, VF_INFO, IB_NODE_GUID, IB_PORT_GUID = 22, 1, 10, 11
VLAN, SPOOFCHK, TRUST = 2, 4, 9
GUID = bytes.fromhex("0a0b0c0d0e0f1011")


class RecordingSession:
    """A fake of ``NetnsExecutor`` and of its netlink session; the only link is ``ibs1``."""

    own_namespace = None

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: bytes | None = None

    @contextmanager
    def session(self, _namespace: object) -> Iterator[RecordingSession]:
        yield self

    def link(self, name: str) -> Link | None:
        return Link(7, name) if name == "ibs1" else None

    def ask(self, request: Request) -> bytes | None:
        self.requests.append(request)
        return self.answer

    def apply(self, requests: Sequence[Request]) -> None:
        self.requests += requests


def test_set_guid_sets_node_guid_port_guid_and_link_state_auto() -> None:
    recorded = RecordingSession()

    KernelVfLinks(cast("NetnsExecutor", recorded)).set_guid("ibs1", 3, GUID)

    header = "00000000070000000000000000000000"  # ifinfomsg: ifindex 7
    guid = "030000000000000011100f0e0d0c0b0a"  # virtual function 3, padding, GUID
    # Attribute headers, four bytes each: IFLA_VFINFO_LIST, IFLA_VF_INFO, the setting.
    assert [request.body.hex() for request in recorded.requests] == [
        header + "1c001680" + "18000180" + "14000a00" + guid,  # IFLA_VF_IB_NODE_GUID
        header + "1c001680" + "18000180" + "14000b00" + guid,  # IFLA_VF_IB_PORT_GUID
        header + "14001680" + "10000180" + "0c000500" + "03000000" + "00000000",  # state auto
    ]
    assert recorded.requests[0].verb == "set GUID 0a:0b:0c:0d:0e:0f:10:11 of"


def test_guids_are_read_with_the_numbers_of_their_virtual_functions() -> None:
    recorded = RecordingSession()
    header = "00002000070000004310010000000000"
    name = "090003006962733100000000"  # IFLA_IFNAME
    first = "14000a00000000000000000011100f0e0d0c0b0a"
    second = "14000a0001000000000000000000000000000000"
    other = "0c0005000200000000000000"  # a virtual function without a GUID
    infos = "18000100" + first + "18000100" + second + "10000100" + other
    recorded.answer = bytes.fromhex(header + name + "44001600" + infos)

    settings = KernelVfLinks(cast("NetnsExecutor", recorded)).vf_settings("ibs1")

    assert settings == {
        0: VfSettings("0a:0b:0c:0d:0e:0f:10:11"),
        1: VfSettings("00:00:00:00:00:00:00:00"),
        2: VfSettings(),
    }
    # ifindex 7; IFLA_EXT_MASK: virtual functions, no counters
    assert recorded.requests[0].body.hex() == "0000000007000000000000000000000008001d0009000000"


def recorded_link() -> bytes:
    """A real kernel's answer for a card with two virtual functions."""
    lines = RECORDED.read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def with_guids(link: bytes, guids: Sequence[bytes]) -> bytes:
    """``link`` with the node GUID and port GUID of each virtual function."""
    link_attributes = attributes(link[IFINFOMSG.size :])
    infos = [
        nested(
            VF_INFO,
            bytes(info),
            *(
                attribute(kind, struct.pack("=IIQ", number, 0, int.from_bytes(guid, "big")))
                for kind in (IB_NODE_GUID, IB_PORT_GUID)
            ),
        )
        for number, (info, guid) in enumerate(
            zip(elements(link_attributes[VFINFO_LIST]), guids, strict=True)
        )
    ]
    others = (
        attribute(kind, bytes(value))
        for kind, value in link_attributes.items()
        if kind != VFINFO_LIST
    )
    return link[: IFINFOMSG.size] + b"".join(others) + nested(VFINFO_LIST, *infos)


def test_settings_are_read_from_a_complete_answer_of_a_real_kernel() -> None:
    link, guids = recorded_link(), [GUID, GUID[::-1]]

    ethernet = VfSettings("", trust=False, spoof_check=True)
    assert settings_of_vfs(memoryview(link)) == {0: ethernet, 1: ethernet}
    assert settings_of_vfs(memoryview(with_guids(link, guids))) == {
        number: ethernet._replace(guid=guid.hex(":")) for number, guid in enumerate(guids)
    }


def test_the_vlan_of_a_virtual_function_is_read() -> None:
    vlan = attribute(VLAN, struct.pack("=III", 4, 100, 0))  # struct ifla_vf_vlan: number, VLAN, QoS
    body = IFINFOMSG.pack(0, 0, 7, 0, 0) + nested(VFINFO_LIST, nested(VF_INFO, vlan))

    assert settings_of_vfs(memoryview(body)) == {4: VfSettings(vlan=100)}


def test_settings_that_a_driver_does_not_have_are_unknown() -> None:
    """The kernel writes -1 for such a setting."""
    unknown = (1 << 32) - 1
    values = [attribute(kind, struct.pack("=II", 4, unknown)) for kind in (SPOOFCHK, TRUST)]
    body = IFINFOMSG.pack(0, 0, 7, 0, 0) + nested(VFINFO_LIST, nested(VF_INFO, *values))

    assert settings_of_vfs(memoryview(body)) == {4: VfSettings()}


def test_trust_and_spoof_check_are_set_at_the_physical_function() -> None:
    recorded = RecordingSession()
    links = KernelVfLinks(cast("NetnsExecutor", recorded))

    links.set_trust("ibs1", 3, trust=True)
    links.set_spoof_check("ibs1", 3, spoof_check=False)

    header = "00000000070000000000000000000000" + "14001680" + "10000180"
    assert [request.body.hex() for request in recorded.requests] == [
        header + "0c000900" + "03000000" + "01000000",
        header + "0c000400" + "03000000" + "00000000",
    ]
    assert [request.verb for request in recorded.requests] == [
        "set trust on of",
        "set spoofChk off of",
    ]


def test_the_remedy_for_a_driver_without_trust_is_a_policy_without_trust() -> None:
    class RefusingSession(RecordingSession):
        def apply(self, requests: Sequence[Request]) -> None:
            raise NetlinkRefused("Operation not supported", errno=EOPNOTSUPP)

    links = KernelVfLinks(cast("NetnsExecutor", RefusingSession()))

    with pytest.raises(DatapathError) as refused:
        links.set_trust("ibs1", 3, trust=True)

    assert refused.value.remedy == "leave trust out of the policy: the driver of ibs1 lacks it"


def test_the_real_kernel_returns_no_virtual_functions_for_loopback() -> None:
    executor = NetnsExecutor()
    try:
        assert KernelVfLinks(executor).vf_settings("lo") == {}
    finally:
        executor.close()


def test_the_error_names_a_missing_nic() -> None:
    with pytest.raises(DatapathError, match="no link ibs9"):
        KernelVfLinks(cast("NetnsExecutor", RecordingSession())).set_guid("ibs9", 0, GUID)
