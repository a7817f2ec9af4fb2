"""Decides whether an attachment that a GC call does not list has been deleted (I6).

There are two kinds of evidence: the network namespace of the attachment does not exist, or all GC
calls during at least ``GC_TWICE_S`` omit the attachment. One call is not evidence, because a
runtime may send an empty list. Missing attachments are stored in memory only. Invariants:
docs/contributing/architecture.md.
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
"""Creating a sandbox takes less time."""

MISSED_MAX: Final = 10_000
"""Missing attachments in memory, for all networks."""

ERRORS_SHOWN_MAX: Final = 10

_log: Final = logging.getLogger(__name__)

Sandbox = tuple[str, str]
"""Container ID and interface."""


class MissingAttachments:
    """The attachments that the last GC of each network did not list."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._missed: dict[str, dict[Sandbox, float]] = {}

    def start(self, network: str) -> GcPass:
        """Begin a GC of a network."""
        return GcPass(self, network, self._missed.get(network, {}), self._monotonic())

    def remember(self, network: str, missed: dict[Sandbox, float]) -> None:
        """Store a network's missing attachments, at most ``MISSED_MAX`` for all networks."""
        self._missed.pop(network, None)
        free_entries = max(MISSED_MAX - sum(map(len, self._missed.values())), 0)
        if len(missed) > free_entries:
            _log.warning(
                "GC of network %s: %d attachments are missing, and only %d of them are remembered"
                " (the limit for all networks is %d); the others are released by a later GC",
                network,
                len(missed),
                free_entries,
                MISSED_MAX,
            )
        self._missed[network] = dict(islice(missed.items(), free_entries))


class GcPass:
    """One GC of a network. ``missed``: missing attachment -> since when."""

    def __init__(
        self, memory: MissingAttachments, network: str, before: dict[Sandbox, float], now: float
    ) -> None:
        self._memory = memory
        self._network = network
        self._before = before
        self._now = now
        self.missed: dict[Sandbox, float] = {}

    def evidence(self, sandbox: Sandbox, netns: str) -> str:
        """Store a missing attachment. Returns evidence that it was deleted, or ""."""
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


def incomplete(what: str, errors: list[str], done: int) -> CniFailure:
    """The failure of a GC with errors. ``what``: such as "endpoints"."""
    shown_errors = "; ".join(errors[:ERRORS_SHOWN_MAX])
    more = len(errors) - ERRORS_SHOWN_MAX
    suffix = f"; and {more} more" if more > 0 else ""
    return CniFailure(
        GC_INCOMPLETE,
        f"GC failed for {len(errors)} {what}: {shown_errors}{suffix}",
        f"{done} {what} were released; the next GC retries the others",
    )


def is_netns_gone(path: str) -> bool:
    """Whether the network namespace at a path has certainly been deleted.

    True only if the parent directory exists but the path does not. False below /proc, because the
    process may be in another PID namespace.
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
