"""Marks that skip a test on an emulated processor (``make test-arm64``).

An emulated machine has a real arm64 kernel, so only tests with tight deadlines are skipped there.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.support.parts import REAL_PROCESSOR, needs

EMULATION_VARIABLE: Final = "ORBWEAVER_EMULATED"
"""This variable is ``USER`` or ``MACHINE_EMULATION``; it is unset without emulation."""

USER: Final = "user"
MACHINE_EMULATION: Final = "machine"


def _skipped_in(detail: str, *emulations: str) -> pytest.MarkDecorator:
    emulated = os.environ.get(EMULATION_VARIABLE) in emulations
    return pytest.mark.skipif(emulated, reason=needs(REAL_PROCESSOR, detail))


needs_packet_groups: Final = _skipped_in(
    "qemu's user emulation has no PACKET_ADD_MEMBERSHIP, by which packet sockets receive multicast",
    USER,
)
needs_generic_netlink: Final = _skipped_in("qemu's user emulation has no NETLINK_GENERIC", USER)
needs_driver_ioctls: Final = _skipped_in("qemu's user emulation has no SIOCETHTOOL", USER)
needs_sanitizers: Final = _skipped_in("sanitizers do not run in qemu's user emulation", USER)
needs_process_times: Final = _skipped_in("qemu's user emulation has zeros in /proc/PID/stat", USER)
needs_real_time: Final = _skipped_in(
    "an emulated processor is too slow for the deadlines of this test", USER, MACHINE_EMULATION
)
