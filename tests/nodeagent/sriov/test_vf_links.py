"""The netlink messages that set GUIDs, byte by byte (if_link.h, struct ifla_vf_guid)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pytest

from core.errors import DatapathError
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.requests import Request
from nodeagent.netlink.values import Link
from nodeagent.sriov.vf_links import KernelVfLinks

GUID = bytes.fromhex("0a0b0c0d0e0f1011")


class RecordedSession:
    """A session that has one link and records what is sent."""

    home = None

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @contextmanager
    def session(self, _namespace: object) -> Iterator[RecordedSession]:
        yield self

    def link(self, name: str) -> Link | None:
        return Link(7, name) if name == "ibs1" else None

    def apply(self, requests: Sequence[Request]) -> None:
        self.requests += requests


def test_both_guids_are_set_and_the_link_follows_its_port() -> None:
    recorded = RecordedSession()

    KernelVfLinks(cast("NetnsExecutor", recorded)).set_guid("ibs1", 3, GUID)

    header = "00000000070000000000000000000000"  # ifinfomsg: ifindex 7
    guid = "030000000000000011100f0e0d0c0b0a"  # virtual function 3, padding, GUID
    assert [request.body.hex() for request in recorded.requests] == [
        header + "1c001680" + "18000180" + "14000a00" + guid,  # IFLA_VF_IB_NODE_GUID
        header + "1c001680" + "18000180" + "14000b00" + guid,  # IFLA_VF_IB_PORT_GUID
        header + "14001680" + "10000180" + "0c000500" + "03000000" + "00000000",  # state auto
    ]
    assert recorded.requests[0].verb == "set GUID 0a:0b:0c:0d:0e:0f:10:11 of"


def test_a_nic_that_is_gone_is_named() -> None:
    with pytest.raises(DatapathError, match="no link ibs9"):
        KernelVfLinks(cast("NetnsExecutor", RecordedSession())).set_guid("ibs9", 0, GUID)
