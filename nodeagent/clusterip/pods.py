"""Where Pods' processes are: their control group, of version 2; and whether a path can hold pins.

Reads only. What kubelet makes is known by its names; every other runtime's is a setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.errors import BadInput, DatapathError

ROOTS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
KUBELETS: Final = (
    "kubepods.slice",
    "kubepods",
    "kubelet.slice/kubelet-kubepods.slice",
    "kubelet/kubepods",
)
"""By systemd and by the cgroup file system, alone and below a group of kubelet's own."""

BPFFS: Final = "/sys/fs/bpf"
_MARK: Final = "cgroup.controllers"
"""Every control group of version 2 has this file, and no other has."""


def pods_cgroup(said: str) -> Path:
    """The control group of Pods: the one that was said, else kubelet's.

    Raises BadInput for one that is none, DatapathError when there is none yet.
    """
    if said:
        path = Path(said)
        if path.is_dir() and not (path / _MARK).exists():
            raise BadInput(
                f"{said} is no control group of version 2",
                subject="orbweaver.clusterIP.cgroup",
                remedy="programs of sockets can be attached to no other",
            )
        if not path.is_dir():
            raise DatapathError(f"there is no control group {said} yet", subject=said)
        return path
    for root in ROOTS:
        for name in KUBELETS:
            if (root / name / _MARK).exists():
                return root / name
    raise DatapathError(
        "kubelet's control group of Pods is not there",
        subject="orbweaver.clusterIP.cgroup",
        remedy="name the Pods' control group of version 2 in orbweaver.clusterIP.cgroup",
    )


def cgroup2_mounts() -> list[str]:
    """Where control groups of version 2 are mounted."""
    return _mounts("cgroup2")


def can_pin(path: Path) -> bool:
    """Whether a path is in a bpffs."""
    return any(path.is_relative_to(mount) for mount in _mounts("bpf"))


def _mounts(kind: str) -> list[str]:
    """Mount points of a kind of file system (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        place, _, rest = line.partition(" - ")
        if rest.split()[0] == kind:
            found.append(place.split()[4].encode().decode("unicode_escape"))
    return found
