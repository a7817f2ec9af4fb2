"""What a GC's list of valid attachments lacks, and when that is evidence (CNI 1.1.0; I6).

Absence from a list proves nothing, be it once or empty. Evidence is that the network namespace is
gone, or that two calls in a row at least ``GC_TWICE_S`` apart both missed the attachment. What was
missed once is remembered by this process alone: a restart starts anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from nodeagent.cni_protocol.failures import GC_INCOMPLETE, INVALID_CONFIG, CniFailure
from nodeagent.cni_protocol.netconf import NetConf

GC_TWICE_S: Final = 60.0
"""Between two calls that both miss an attachment: longer than a runtime takes to make a sandbox."""

MISSED_MAX: Final = 10_000
"""Attachments remembered as missed once; a node holds hundreds."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

Sandbox = tuple[str, str]
"""(container, interface)."""


class MissingAttachments:
    """Remembers, by network, what the last GC missed and since when."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._missed: dict[str, dict[Sandbox, float]] = {}

    def look(self, network: str) -> GcPass:
        """One GC's look at a network."""
        return GcPass(self, network, self._missed.get(network, {}), self._monotonic())

    def remember(self, network: str, missed: dict[Sandbox, float]) -> None:
        """Keep what this GC has missed, as far as there is room."""
        self._missed.pop(network, None)
        room = max(MISSED_MAX - sum(len(each) for each in self._missed.values()), 0)
        if len(missed) > room:
            _log.warning(
                "GC of network %s missed %d attachments and remembers %d of them: the limit of all"
                " networks is %d; the others count as missed from a later GC on",
                *(network, len(missed), room, MISSED_MAX),
            )
        self._missed[network] = dict(islice(missed.items(), room))


class GcPass:
    """One GC: ``missed`` is when each attachment was missed first."""

    def __init__(
        self, memory: MissingAttachments, network: str, before: dict[Sandbox, float], now: float
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missed: dict[Sandbox, float] = {}

    def evidence(self, sandbox: Sandbox, netns: str) -> str:
        """What proves that a missing attachment is gone, in words; "" for nothing yet."""
        since = self.missed[sandbox] = self._before.get(sandbox, self._now)
        container, interface = sandbox
        what = f"container {container} interface {interface}"
        if is_netns_gone(netns):
            return f"{what}: network namespace {netns} is gone"
        if self._now - since >= GC_TWICE_S:
            return f"{what}: missing from GC calls {self._now - since:.0f} s apart"
        return ""

    def remember(self) -> None:
        """The look is over."""
        self._memory.remember(self._network, self.missed)


def valid_attachments(conf: NetConf) -> frozenset[Sandbox]:
    """Both spellings of the list, joined: libcni sends both (SPEC.md 1.1.0, GC)."""
    if conf.valid_attachments is None and conf.attachments is None:
        raise CniFailure(
            INVALID_CONFIG,
            "cni.dev/valid-attachments is missing",
            "GC without the list of valid attachments would end them all",
        )
    both = (*(conf.valid_attachments or ()), *(conf.attachments or ()))
    return frozenset((each.container_id, each.ifname) for each in both)


def incomplete(what: str, errors: list[str], done: int) -> CniFailure:
    """The failure of a GC that went on after errors: "endpoints" are ``what`` it looked at."""
    shown = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    rest = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {len(errors)} {what}: {shown}{rest}",
        f"{done} {what} were released; the next GC tries the others again",
    )


def is_netns_gone(path: str) -> bool:
    """Whether the namespace certainly is no more.

    Only where we would see it: its directory is there for us and it is not. Paths below /proc are
    of another PID namespace's processes as often as not, and prove nothing; neither does a path
    that cannot be looked up.
    """
    if not path.startswith("/") or path.startswith("/proc/"):
        return False
    try:
        if Path(path).parent.is_dir():
            os.lstat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False
