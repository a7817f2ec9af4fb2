"""Attachments missing from a GC's list, and when that is evidence that they are gone (I6).

Being missing once proves nothing, and an empty list proves nothing. Evidence is that the network
namespace is gone, or that the attachment is missing from consecutive GC calls at least
``GC_TWICE_S`` apart. What was missing is kept in memory only: a restart of the agent starts anew.
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
"""Seconds between two GC calls that miss an attachment; longer than creating a sandbox takes."""

MISSED_MAX: Final = 10_000
"""Missing attachments that are remembered; a node has hundreds of attachments."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

Sandbox = tuple[str, str]
"""(container, interface)."""


class MissingAttachments:
    """Stores, by network, the attachments missing from the last GC and since when."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._missed: dict[str, dict[Sandbox, float]] = {}

    def start(self, network: str) -> GcPass:
        """Begin one GC of a network."""
        return GcPass(self, network, self._missed.get(network, {}), self._monotonic())

    def remember(self, network: str, missed: dict[Sandbox, float]) -> None:
        """Keep the attachments missing from this GC, up to ``MISSED_MAX`` in all networks."""
        self._missed.pop(network, None)
        left = max(MISSED_MAX - sum(map(len, self._missed.values())), 0)
        if len(missed) > left:
            _log.warning(
                "GC of network %s: %d attachments are missing, and only %d of them are remembered"
                " (the limit for all networks is %d); the others are released by a later GC",
                *(network, len(missed), left, MISSED_MAX),
            )
        self._missed[network] = dict(islice(missed.items(), left))


class GcPass:
    """One GC; ``missed``: when each missing attachment was missing for the first time."""

    def __init__(
        self, memory: MissingAttachments, network: str, before: dict[Sandbox, float], now: float
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missed: dict[Sandbox, float] = {}

    def evidence(self, sandbox: Sandbox, netns: str) -> str:
        """The evidence that a missing attachment is gone; "" without evidence."""
        since = self.missed[sandbox] = self._before.get(sandbox, self._now)
        container, interface = sandbox
        subject = f"container {container} interface {interface}"
        if is_netns_gone(netns):
            return f"{subject}: network namespace {netns} is gone"
        if self._now - since >= GC_TWICE_S:
            return f"{subject}: missing from GC calls {self._now - since:.0f} s apart"
        return ""

    def end(self) -> None:
        """Store the missing attachments."""
        self._memory.remember(self._network, self.missed)


def valid_attachments(conf: NetConf) -> frozenset[Sandbox]:
    """The union of both lists that libcni sends (SPEC.md 1.1.0, GC). Raises CniFailure."""
    if conf.valid_attachments is None and conf.attachments is None:
        raise CniFailure(
            INVALID_CONFIG,
            "cni.dev/valid-attachments is missing",
            "without the list of valid attachments GC would release all of them",
        )
    both = (*(conf.valid_attachments or ()), *(conf.attachments or ()))
    return frozenset((attachment.container_id, attachment.ifname) for attachment in both)


def incomplete(what: str, errors: list[str], done: int) -> CniFailure:
    """The failure of a GC with errors; ``what``: the kind of objects, such as "endpoints"."""
    shown = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    rest = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {len(errors)} {what}: {shown}{rest}",
        f"{done} {what} were released; the next GC tries the rest again",
    )


def is_netns_gone(path: str) -> bool:
    """Whether a network namespace certainly does not exist any more.

    True only if its directory exists for this process and the path does not. A path below /proc
    proves nothing, because it may belong to a process of another PID namespace; neither does a path
    whose lookup fails.
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
