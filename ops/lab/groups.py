"""The control groups of a laboratory's Pods: one for each node, below one for all.

Only programs that are run in a Pod are in them, so that an agent can serve their sockets as it
serves those of kubelet's Pods. ``leftovers`` removes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nodeagent.clusterip.pods import cgroup2_mounts
from ops.lab.identity import LabFailed, LabIdentity


def make_group(identity: LabIdentity, node: str) -> Path:
    """The group of a node's Pods. Raises LabFailed where there can be none."""
    mounts = cgroup2_mounts()
    if not mounts:
        raise LabFailed("no control groups of version 2 are mounted on this machine")
    path = Path(mounts[0]) / identity.name("pods") / node
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise LabFailed(f"control groups cannot be made: {error}") from error
    return path


def can_make() -> bool:
    """Whether this process may make any."""
    mounts = cgroup2_mounts()
    return bool(mounts) and os.access(mounts[0], os.W_OK)


def within(group: Path, command: Sequence[str]) -> list[str]:
    """The command that enters a group and then becomes ``command``."""
    enter = 'echo $$ >"$0" && exec "$@"'
    return ["sh", "-c", enter, str(group / "cgroup.procs"), *command]
