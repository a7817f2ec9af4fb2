"""DCB requests are compared with those of dcb(8), and sent to this machine's kernel."""

from __future__ import annotations

from collections.abc import Callable
from errno import EOPNOTSUPP
from functools import partial
from typing import Any, cast

import pytest

from core.domain.roce_qos.qos_model import DcbSettings, DscpPriority, EtsSettings
from core.errors import NetlinkRefused
from nodeagent.netlink import dcb
from nodeagent.netlink.requests import Request
from nodeagent.netlink.session import NetlinkSession, RequestOutcome
from ops.lab.namespaces import NamedNamespace
from tests.nodeagent.roce_qos.dcb_kernel import DcbExecutor, DcbLink
from tests.support.link import ip

NAME_V0 = b"\x07\0\x01\0v0\0\0"
"""The attribute with the link name v0."""


class Recorder:
    """A fake session that records requests and acknowledges every change."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def apply(self, batch: list[Request]) -> list[RequestOutcome]:
        self.requests += batch
        # Attribute IEEE (13) with the status 0.
        return [RequestOutcome(answer=b"\0\0\0\0\x05\0\x0d\0\0\0\0\0")]


def recorder_and_session() -> tuple[Recorder, NetlinkSession]:
    """One object, first typed as a recorder and then as a session."""
    recorder = Recorder()
    return recorder, cast("Any", recorder)


def test_dscp_requests_equal_those_of_dcb_app() -> None:
    recorder, session = recorder_and_session()

    dcb.add_dscp_priorities(session, "v0", (DscpPriority(40, 5), DscpPriority(48, 6)))
    dcb.remove_dscp_priorities(session, "v0", (DscpPriority(40, 5),))

    add, remove = recorder.requests
    assert (add.kind, remove.kind) == (79, 79)  # RTM_SETDCB
    table = b"\x14\0\x03\x80\x08\0\x01\0\x05\x05\x28\0\x08\0\x01\0\x05\x06\x30\0"
    assert add.body == b"\0\x14\0\0" + NAME_V0 + b"\x18\0\x0d\x80" + table
    entry = b"\x0c\0\x03\x80\x08\0\x01\0\x05\x05\x28\0"
    assert remove.body == b"\0\x1b\0\0" + NAME_V0 + b"\x10\0\x0d\x80" + entry


def test_trust_requests_equal_those_of_dcb_apptrust() -> None:
    recorder, session = recorder_and_session()

    dcb.set_trust(session, "v0", "dscp")
    dcb.set_trust(session, "v0", "pcp")

    by_dscp, by_pcp = (request.body for request in recorder.requests)
    head = b"\0\x14\0\0" + NAME_V0 + b"\x10\0\x0d\x80\x0c\0\x0b\x80"
    assert by_dscp == head + b"\x05\0\x01\0\x05\0\0\0"
    assert by_pcp == head + b"\x05\0\x02\0\xff\0\0\0"


def test_a_pfc_request_keeps_the_drivers_other_values() -> None:
    link = DcbLink()
    executor = DcbExecutor({"v0": link})
    pfc_before = link.pfc

    with executor.session(executor.own_namespace) as session:
        dcb.set_pfc(session, "v0", (3, 5))

        settings = dcb.read_dcb(session, "v0")
    ets = EtsSettings(classes=tuple(range(8)), bandwidths=(None,) * 8, classes_max=8)
    assert settings == DcbSettings(frozenset({3, 5}), ets=ets)
    assert link.pfc == pfc_before[:1] + b"\x28" + pfc_before[2:], "delay and capabilities stay"


def test_an_ets_request_keeps_the_drivers_other_values() -> None:
    link = DcbLink()
    executor = DcbExecutor({"v0": link})
    ets = EtsSettings(classes=(0, 0, 0, 0, 0, 1, 2, 0), bandwidths=(40, 60, None))

    with executor.session(executor.own_namespace) as session:
        dcb.set_ets(session, "v0", ets)
        settings = dcb.read_dcb(session, "v0")

    shares, algorithms = b"\x28\x3c" + bytes(6), b"\x02\x02" + bytes(6)
    classes = bytes(ets.classes)
    assert link.ets == b"\0\x08\0" + shares * 2 + algorithms + classes + bytes(24)
    assert settings is not None
    assert settings.ets is not None
    assert settings.ets.is_equivalent(ets)


def test_set_pfc_accepts_the_answer_that_nothing_changed() -> None:
    link = DcbLink()
    executor = DcbExecutor({"v0": link})
    link.status = 1

    with executor.session(executor.own_namespace) as session:
        dcb.set_pfc(session, "v0", (5,))

    assert executor.changes == 1


def test_a_refused_change_raises_the_errno_of_the_driver() -> None:
    """The kernel acknowledges the request; one byte of the answer is the driver's errno."""
    link = DcbLink()
    executor = DcbExecutor({"v0": link})
    link.status = -EOPNOTSUPP

    with (
        executor.session(executor.own_namespace) as session,
        pytest.raises(NetlinkRefused) as error,
    ):
        dcb.add_dscp_priorities(session, "v0", (DscpPriority(40, 5),))

    assert error.value.errno == EOPNOTSUPP
    assert str(error.value) == "cannot add DSCP priorities of v0: Operation not supported"


@pytest.mark.netns
def test_a_link_without_dcb_has_no_settings_and_refuses_changes(
    session: NetlinkSession, named_namespace: NamedNamespace
) -> None:
    ip("-n", named_namespace.name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")

    assert dcb.read_dcb(session, "v0") is None
    assert dcb.read_dcb(session, "nowhere") is None
    entries = (DscpPriority(40, 5),)
    changes: list[Callable[[], None]] = [
        partial(dcb.set_pfc, session, "v0", (5,)),
        partial(dcb.set_trust, session, "v0", "dscp"),
        partial(dcb.add_dscp_priorities, session, "v0", entries),
        partial(dcb.remove_dscp_priorities, session, "v0", entries),
    ]
    for change in changes:
        with pytest.raises(NetlinkRefused) as error:
            change()
        assert error.value.errno == EOPNOTSUPP
