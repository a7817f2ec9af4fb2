"""Hosts of a test: network namespaces on one bridge, with host names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

ENTER: Final = 'mount --bind "$0" /etc/hosts && exec "$@"'


def run(*command: str) -> None:
    """Raises AssertionError if the command fails."""
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, f"{' '.join(command)}: {completed.stderr}"


class Hosts:
    """Hosts of one network. ``names``: short name of a host -> all host names of this host."""

    def __init__(self, directory: Path, names: Mapping[str, Sequence[str]]) -> None:
        self._prefix = f"owh-{os.getpid()}"
        self._file = directory / "hosts"
        self._addresses = {name: f"10.98.0.{number}" for number, name in enumerate(names, 11)}
        lines = [
            f"{self._addresses[name]} {' '.join(host_names)}" for name, host_names in names.items()
        ]
        self._file.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")

    @contextmanager
    def network(self) -> Iterator[None]:
        """Create a bridge, and a namespace for each host."""
        with ExitStack() as stack:
            bridge = stack.enter_context(self._namespace("bridge"))
            run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
            run("ip", "-n", bridge, "link", "set", "br0", "up")
            for number, (name, address) in enumerate(self._addresses.items()):
                namespace = stack.enter_context(self._namespace(name))
                port = f"p{number}"
                ends = ["type", "veth", "peer", "name", "eth0", "netns", namespace]
                run("ip", "-n", bridge, "link", "add", port, *ends)
                run("ip", "-n", bridge, "link", "set", port, "master", "br0", "up")
                run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
                run("ip", "-n", namespace, "link", "set", "eth0", "up")
            yield

    def address(self, name: str) -> str:
        return self._addresses[name]

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` on a host, where all host names resolve."""
        enter = ["nsenter", f"--net=/var/run/netns/{self._prefix}-{name}", "--"]
        mount = ["unshare", "--mount", "sh", "-c", ENTER, str(self._file)]
        return [*enter, *mount, *command]

    @contextmanager
    def _namespace(self, name: str) -> Iterator[str]:
        namespace = f"{self._prefix}-{name}"
        run("ip", "netns", "add", namespace)
        try:
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            yield namespace
        finally:
            run("ip", "netns", "delete", namespace)
