"""The cgroups of a laboratory's Pods: one for each node, below one for the laboratory.

Only programs of Pods run in them: the agent's eBPF programs for ClusterIPs apply to these cgroups.
``leftovers`` removes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nodeagent.clusterip.pods import cgroup2_mounts
from ops.lab.identity import LabFailed, LabIdentity


def make_group(identity: LabIdentity, node: str) -> Path:
    """Create the cgroup of a node's Pods. Raises LabFailed."""
    mounts = cgroup2_mounts()
    if not mounts:
        raise LabFailed("cgroup v2 is not mounted on this machine")
    path = Path(mounts[0]) / identity.name("pods") / node
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise LabFailed(f"cannot create cgroup {path}: {error.strerror}") from error
    return path


def can_make() -> bool:
    """Whether this process may create cgroups."""
    mounts = cgroup2_mounts()
    return bool(mounts) and os.access(mounts[0], os.W_OK)


def within(group: Path, command: Sequence[str]) -> list[str]:
    """A command that enters a cgroup and then executes ``command``."""
    enter = 'echo $$ >"$0" && exec "$@"'
    return ["sh", "-c", enter, str(group / "cgroup.procs"), *command]
