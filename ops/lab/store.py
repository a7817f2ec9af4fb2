"""The laboratory's etcd: one member in the network between the nodes.

The member runs without fsync, because its data is deleted with the laboratory.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from ops.lab.daemons import Daemon
from ops.lab.http import is_ok
from ops.lab.identity import LabIdentity
from ops.lab.namespaces import NamedNamespace

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380


class Etcd:
    """One etcd process and its directory."""

    def __init__(
        self, identity: LabIdentity, namespace: NamedNamespace, address: str, directory: Path
    ) -> None:
        self.directory = directory
        self._socket = directory / "etcd.sock"
        self.endpoint = f"{address}:{CLIENT_PORT}"
        """The endpoint for nodes."""
        peer = f"http://127.0.0.1:{PEER_PORT}"
        flags = {
            "name": "lab",
            "data-dir": str(directory / "data"),
            "listen-client-urls": f"http://{self.endpoint},unix://{self._socket}",
            "advertise-client-urls": f"http://{self.endpoint}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"lab={peer}",
            "log-level": "warn",
        }
        command = [
            shutil.which("etcd") or "etcd",
            *(f"--{name}={value}" for name, value in flags.items()),
            "--unsafe-no-fsync",
        ]
        self.daemon = Daemon(identity, namespace, command, directory / "etcd.log", {})

    @property
    def outside_endpoint(self) -> str:
        """The endpoint outside the network namespaces, in gRPC syntax."""
        return f"unix:{self._socket}"

    def start(self) -> None:
        """Start etcd and wait until it is healthy. Raises LabFailed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        self.daemon.start()
        self.daemon.wait_until(lambda: is_ok(self._socket, "/health"))

    def stop(self) -> None:
        """Stop etcd with SIGTERM."""
        self.daemon.stop()

    def kill(self) -> None:
        """Kill etcd. ``start`` continues with the same data."""
        self.daemon.kill()
