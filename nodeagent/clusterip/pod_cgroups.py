"""Finds the Pods' control group (version 2) and mounts of bpffs. Reads only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.errors import BadInput, DatapathError

CGROUP_ROOTS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
KUBELET_CGROUPS: Final = (
    "kubepods.slice",
    "kubepods",
    "kubelet.slice/kubelet-kubepods.slice",
    "kubelet/kubepods",
)
"""Kubelet's systemd and cgroupfs drivers use these names. Other names must be configured."""

BPFFS: Final = "/sys/fs/bpf"
_CGROUP2_FILE: Final = "cgroup.controllers"


def pods_cgroup(configured: str) -> Path:
    """The control group of Pods. ``configured`` "": kubelet's control group of Pods.

    Raises BadInput if the group is not of version 2, DatapathError if it does not exist.
    """
    if configured:
        path = Path(configured)
        if path.is_dir() and not (path / _CGROUP2_FILE).exists():
            raise BadInput(
                f"orbweaver.clusterIP.cgroup: {configured} is not a control group of version 2",
                subject="orbweaver.clusterIP.cgroup",
                remedy="set a control group below a cgroup2 mount",
            )
        if not path.is_dir():
            text = f"orbweaver.clusterIP.cgroup: there is no control group {configured}"
            remedy = "create the control group, or correct the setting; the agent tries again"
            raise DatapathError(text, subject=configured, remedy=remedy)
        return path
    for root in CGROUP_ROOTS:
        for name in KUBELET_CGROUPS:
            if (root / name / _CGROUP2_FILE).exists():
                return root / name
    raise DatapathError(
        "kubelet's control group of Pods does not exist",
        subject="orbweaver.clusterIP.cgroup",
        remedy="set orbweaver.clusterIP.cgroup to the Pods' control group of version 2",
    )


def cgroup2_mounts() -> list[str]:
    """The mount points of control groups of version 2."""
    return _mounts("cgroup2")


def is_in_bpffs(path: Path) -> bool:
    """Whether a path is in a bpffs."""
    return any(path.is_relative_to(mount) for mount in _mounts("bpf"))


def _mounts(kind: str) -> list[str]:
    """The mount points of a type of file system (proc(5), mountinfo)."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, filesystem = line.partition(" - ")
        if filesystem.split()[0] == kind:
            points.append(mount.split()[4].encode().decode("unicode_escape"))
    return points
