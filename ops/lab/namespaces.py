"""Named network namespaces, as ``ip netns`` creates them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from core.errors import DatapathError
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from ops.lab.identity import NAMESPACES_FOLDER, LabFailed
from ops.lab.programs import attempt, run

T = TypeVar("T")

PING_S: Final = "2"
"""How long ping waits; text, because it is an argument."""

PING_TIME: Final = re.compile(r"time=([0-9.]+)")
_LOOPBACK_INDEX: Final = 1


class NamedNamespace:
    """One named network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> Path:
        """The value of CNI_NETNS."""
        return NAMESPACES_FOLDER / self.name

    @property
    def exists(self) -> bool:
        """Whether a namespace with this name exists."""
        return self.path.exists()

    def create(self) -> None:
        """Create the namespace, with its loopback interface up. Raises LabFailed."""
        # pyroute2 would fork this process, which has several threads.
        run(["ip", "netns", "add", self.name])
        self.netlink(lambda route: route.link("set", index=_LOOPBACK_INDEX, state="up"))

    def delete(self) -> None:
        """Remove the name. The namespace itself ends with its last process. Raises LabFailed."""
        if self.exists:
            run(["ip", "netns", "delete", self.name])

    def netlink(self, work: Callable[[Any], T]) -> T:
        """Run ``work`` inside, with an ``IPRoute`` of pyroute2. Raises LabFailed."""
        from pyroute2 import IPRoute  # noqa: PLC0415  # takes 0.1 s and 13 MB
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        def inside() -> T:
            with IPRoute() as route:
                return work(route)

        executor = NetnsExecutor()
        try:
            with NetworkNamespace.open(str(self.path)) as namespace:
                return executor.run(namespace, inside)
        except (DatapathError, NetlinkError) as error:
            raise LabFailed(f"cannot change network namespace {self.name}: {error}") from error
        finally:
            executor.close()

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` inside and return its output, for tests. Raises LabFailed."""
        return run(["ip", "-n", self.name, *arguments])

    def set_sysctl(self, sysctl: str, value: str) -> None:
        """Set a network sysctl (``net/...``) inside. Raises LabFailed."""
        # /proc/sys/net shows the namespace of the process that opens the file.
        run(self.inside(["sh", "-c", f'printf %s "$1" >/proc/sys/{sysctl}', "sh", value]))

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` inside.

        Not ``ip netns exec``, which remounts /sys: the command would not see the cgroups.
        """
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command inside and return its output. Raises LabFailed."""
        return run(self.inside(command))

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; it may fail."""
        return attempt(self.inside(command))

    def ping(self, address: str) -> float | None:
        """The milliseconds of one ping from inside; None without an answer. Raises LabFailed."""
        done = self.attempt("ping", "-n", "-c", "1", "-W", PING_S, address)
        if done.returncode:
            return None
        time = PING_TIME.search(done.stdout)
        if time is None:
            raise LabFailed(f"the output of ping has no time: {done.stdout}")
        return float(time[1])
