"""Decides whether an attachment that a GC call does not list has been deleted (I6).

A single call without the attachment is not evidence: the list of a call may be empty. Evidence is
that the network namespace is deleted, or that the attachment is missing from consecutive GC calls
at least ``GC_TWICE_S`` apart. Missing attachments are kept in memory only: after a restart of the
agent, an attachment must be missing from two calls again.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
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
"""Seconds between two GC calls: an attachment that is missing from both counts as deleted if the
calls are so far apart. Creating a sandbox takes less time."""

MISSED_MAX: Final = 10_000
"""Missing attachments that are remembered; a node has hundreds of attachments."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

Sandbox = tuple[str, str]
"""Container id and interface of an attachment."""


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
        free = max(MISSED_MAX - sum(map(len, self._missed.values())), 0)
        if len(missed) > free:
            _log.warning(
                "GC of network %s: %d attachments are missing, and only %d of them are remembered"
                " (the limit for all networks is %d); the others are released by a later GC",
                network,
                len(missed),
                free,
                MISSED_MAX,
            )
        self._missed[network] = dict(islice(missed.items(), free))


class GcPass:
    """One GC of a network; ``missed``: since when each attachment is missing."""

    def __init__(
        self, memory: MissingAttachments, network: str, before: dict[Sandbox, float], now: float
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missed: dict[Sandbox, float] = {}

    def evidence(self, sandbox: Sandbox, netns: str) -> str:
        """Record a missing attachment; return the evidence that it is deleted, or ""."""
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
            "the runtime must send the list of valid attachments: without the list, GC would"
            " release every attachment",
        )
    attachments = (*(conf.valid_attachments or ()), *(conf.attachments or ()))
    return frozenset((attachment.container_id, attachment.ifname) for attachment in attachments)


def incomplete(what: str, errors: list[str], done: int) -> CniFailure:
    """The failure of a GC with errors; ``what``: the kind of objects, such as "endpoints"."""
    shown = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    suffix = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {len(errors)} {what}: {shown}{suffix}",
        f"{done} {what} were released; the next GC retries the others",
    )


def is_netns_gone(path: str) -> bool:
    """Whether it is certain that a network namespace does not exist any more.

    True only if this process sees the directory but not the path. A path below /proc is no proof,
    because it may belong to a process of another PID namespace. A lookup that fails for another
    reason is no proof either.
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
