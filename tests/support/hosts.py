"""Machines of a test: a network namespace each, one bridge, and names for each other.

Names are an /etc/hosts of the test's own, mounted where its processes look and nowhere else. All
addresses are in namespaces that were made here, and gone when the context ends.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

ENTER: Final = 'mount --bind "$0" /etc/hosts && exec "$@"'


def run(*command: str) -> None:
    """Run, or fail with its complaint."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Hosts:
    """``names``: short name of a machine -> every name that others know it by."""

    def __init__(self, directory: Path, names: Mapping[str, Sequence[str]]) -> None:
        self._prefix = f"owh-{os.getpid()}"
        self._file = directory / "hosts"
        self._addresses = {name: f"10.98.0.{number}" for number, name in enumerate(names, 11)}
        lines = [f"{self._addresses[name]} {' '.join(known)}" for name, known in names.items()]
        self._file.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")

    @contextmanager
    def network(self) -> Iterator[None]:
        """A bridge and a namespace for each; all gone afterwards."""
        with ExitStack() as stack:
            bridge = stack.enter_context(self._namespace("bridge"))
            run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", bridge, "link", "set", "br0", "up")
            for number, (name, address) in enumerate(self._addresses.items()):
                own = stack.enter_context(self._namespace(name))
                port = f"p{number}"
                ends = ["type", "veth", "peer", "name", "eth0", "netns", own]
                run("ip", "-n", bridge, "link", "add", port, *ends)
                run("ip", "-n", bridge, "link", "set", port, "master", "br0", "up")
                run("ip", "-n", own, "addr", "add", f"{address}/24", "dev", "eth0")
                run("ip", "-n", own, "link", "set", "eth0", "up")
            yield

    def address(self, name: str) -> str:
        """Where the others reach a machine."""
        return self._addresses[name]

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` on a machine."""
        enter = ["nsenter", f"--net=/var/run/netns/{self._prefix}-{name}", "--"]
        own = ["unshare", "--mount", "sh", "-c", ENTER, str(self._file)]
        return [*enter, *own, *command]

    @contextmanager
    def _namespace(self, name: str) -> Iterator[str]:
        full = f"{self._prefix}-{name}"
        run("ip", "netns", "add", full)
        try:
            run("ip", "-n", full, "link", "set", "lo", "up")
            yield full
        finally:
            run("ip", "netns", "delete", full)
