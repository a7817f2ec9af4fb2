"""Decides whether an attachment that a GC call does not list has been deleted (I6).

A single call without the attachment is not evidence, because a runtime may send an empty list.
There are two kinds of evidence:

- The network namespace of the attachment does not exist.
- The attachment is missing from all GC calls of a period of at least ``GC_TWICE_S``.

Missing attachments are stored in memory only. A restart of the agent begins a new period.

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
"""Seconds after which an attachment that all GC calls omit counts as deleted. Creating a sandbox
takes less time."""

MISSED_MAX: Final = 10_000
"""Missing attachments in memory. A node has hundreds of attachments."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

Sandbox = tuple[str, str]
"""Container id and interface of an attachment."""


class MissingAttachments:
    """Stores the attachments that the last GC of each network omitted, and the first omission."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._missed: dict[str, dict[Sandbox, float]] = {}

    def start(self, network: str) -> GcPass:
        """Begin one GC of a network."""
        return GcPass(self, network, self._missed.get(network, {}), self._monotonic())

    def remember(self, network: str, missed: dict[Sandbox, float]) -> None:
        """Store the missing attachments of a network; at most ``MISSED_MAX`` for all networks."""
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
    """One GC of a network.

    ``missed``: missing attachment -> since when. ``before``: ``missed`` of the previous GC.
    """

    def __init__(
        self, memory: MissingAttachments, network: str, before: dict[Sandbox, float], now: float
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missed: dict[Sandbox, float] = {}

    def evidence(self, sandbox: Sandbox, netns: str) -> str:
        """Record a missing attachment. Return the evidence that it was deleted, or ""."""
        since = self.missed[sandbox] = self._before.get(sandbox, self._now)
        container, interface = sandbox
        subject = f"container {container} interface {interface}"
        if is_netns_gone(netns):
            return f"{subject}: network namespace {netns} is gone"
        if self._now - since >= GC_TWICE_S:
            return f"{subject}: missing from GC calls {self._now - since:.0f} s apart"
        return ""

    def end(self) -> None:
        """Store the missing attachments for the next GC."""
        self._memory.remember(self._network, self.missed)


def valid_attachments(conf: NetConf) -> frozenset[Sandbox]:
    """The valid attachments of a GC call. Raises CniFailure.

    libcni sends the list under two keys (SPEC.md 1.1.0, GC). The result has the entries of both.
    """
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
    """The failure of a GC with errors. ``what``: the kind of the objects, such as "endpoints"."""
    shown = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    suffix = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {len(errors)} {what}: {shown}{suffix}",
        f"{done} {what} were released; the next GC retries the others",
    )


def is_netns_gone(path: str) -> bool:
    """Whether it is certain that the network namespace at a path does not exist any more.

    True only if the parent directory exists but the path does not. The result is False for a path
    below /proc, which may belong to a process of another PID namespace.
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
