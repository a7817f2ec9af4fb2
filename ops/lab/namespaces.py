"""Network namespaces by name, as iproute2 keeps them.

Promise: a namespace is never made by looking at it, and deleting one that is gone is no error. It
knows nothing of what runs inside.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ops.lab.identity import NAMESPACES, LabFailed
from ops.lab.programs import attempt, run

PING_S: Final = "2"


class NamedNamespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> Path:
        """What CNI_NETNS is set to."""
        return NAMESPACES / self.name

    @property
    def exists(self) -> bool:
        """Whether the name is there."""
        return self.path.exists()

    def create(self) -> None:
        """Make it, with its loopback up. Raises LabFailed."""
        run(["ip", "netns", "add", self.name])
        self.ip("link", "set", "lo", "up")

    def delete(self) -> None:
        """Remove the name; what is inside goes when the last process has left. Raises LabFailed."""
        if self.exists:
            run(["ip", "netns", "delete", self.name])

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` on its links, addresses or routes. Raises LabFailed."""
        return run(["ip", "-n", self.name, *arguments])

    def set(self, sysctl: str, value: str) -> None:
        """Set a network sysctl (``net/...``) inside. Raises LabFailed."""
        # /proc/sys/net is that of whoever opens it.
        run(self.inside(["sh", "-c", f'printf %s "$1" >/proc/sys/{sysctl}', "sh", value]))

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` inside.

        Not ``ip netns exec``, which remounts /sys and so hides the cgroups.
        """
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str) -> str:
        """Run inside. Raises LabFailed."""
        return run(self.inside(command))

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run inside, whatever the end is."""
        return attempt(self.inside(command))

    def ping(self, address: str) -> float | None:
        """The milliseconds of one ping from inside; None: nobody answers. Raises LabFailed."""
        done = self.attempt("ping", "-n", "-c", "1", "-W", PING_S, address)
        if done.returncode:
            return None
        _, found, rest = done.stdout.partition("time=")
        if not found:
            raise LabFailed(f"cannot read what ping says: {done.stdout}")
        return float(rest.split()[0])
