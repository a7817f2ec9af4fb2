"""Decides whether an attachment that a GC call does not list has been deleted (I6).

There are two kinds of evidence: the network namespace of the attachment does not exist, or all GC
calls have omitted the attachment for ``MISSING_S_MIN`` or longer. One call is not evidence: its
list may be older than an ADD, or incomplete while the runtime starts. An empty list is treated
like any other list, because a node without Pods has no valid attachments. Missing attachments are
stored in memory only. Invariants: docs/contributing/architecture.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from core.domain.validation.common_rules import counted
from nodeagent.cni_protocol.failures import GC_INCOMPLETE, INVALID_CONFIG, CniFailure
from nodeagent.cni_protocol.netconf import NetConf

MISSING_S_MIN: Final = 60.0
"""Longer than the creation of a sandbox takes."""

MISSING_MAX: Final = 10_000
"""Missing attachments in memory, for all networks."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

AttachmentId = tuple[str, str]
"""Container ID and interface."""


class MissingAttachments:
    """The attachments that the last GC of each network did not list."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._missing_since: dict[str, dict[AttachmentId, float]] = {}

    def start(self, network: str) -> GcPass:
        """Begin a GC of a network."""
        return GcPass(self, network, self._missing_since.get(network, {}), self._monotonic())

    def remember(self, network: str, missing_since: dict[AttachmentId, float]) -> None:
        """Store a network's missing attachments, at most ``MISSING_MAX`` for all networks."""
        self._missing_since.pop(network, None)
        free_entries = max(MISSING_MAX - sum(map(len, self._missing_since.values())), 0)
        if len(missing_since) > free_entries:
            _log.warning(
                "GC of network %s: %d attachments are missing, and only %d of them are remembered"
                " (the limit for all networks is %d); the others are released by a later GC",
                network,
                len(missing_since),
                free_entries,
                MISSING_MAX,
            )
        self._missing_since[network] = dict(islice(missing_since.items(), free_entries))


class GcPass:
    """One GC of a network. ``missing_since``: missing attachment -> since when."""

    def __init__(
        self,
        memory: MissingAttachments,
        network: str,
        before: dict[AttachmentId, float],
        now: float,
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missing_since: dict[AttachmentId, float] = {}

    def evidence(self, attachment_id: AttachmentId, netns: str) -> str:
        """Store a missing attachment. Returns evidence that it was deleted, or ""."""
        since = self.missing_since[attachment_id] = self._before.get(attachment_id, self._now)
        container, interface = attachment_id
        subject = f"container {container} interface {interface}"
        if is_netns_gone(netns):
            return f"{subject}: network namespace {netns} is gone"
        if self._now - since >= MISSING_S_MIN:
            return f"{subject}: missing from GC calls {self._now - since:.0f} s apart"
        return ""

    def end(self) -> None:
        """Store the missing attachments for the next GC."""
        self._memory.remember(self._network, self.missing_since)


def valid_attachments(conf: NetConf) -> frozenset[AttachmentId]:
    """The valid attachments, from both keys of libcni (SPEC.md 1.1.0, GC).

    Raises CniFailure if both keys are missing.
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


def gc_failure(what: str, errors: list[str], done: int) -> CniFailure:
    """The failure of a GC with errors. ``what``: such as "endpoint"."""
    shown_errors = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    suffix = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {counted(len(errors), what)}: {shown_errors}{suffix}",
        f"this GC released {counted(done, what)}; the next GC retries the others",
    )


def is_netns_gone(path: str) -> bool:
    """Whether the network namespace at a path has certainly been deleted.

    True only if the parent directory exists but the path does not. False below /proc, because the
    path may have a process ID of another PID namespace.
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
