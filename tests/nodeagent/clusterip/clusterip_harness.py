"""A network namespace with server addresses, and a control group for the BPF programs.

The test's process is in the control group while the harness is open, because a socket belongs to
the control group of its creator.
"""

from __future__ import annotations

import os
import secrets
import socket as sockets
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress, address_bytes
from nodeagent.clusterip.map_plan import contents_of, plan
from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from ops.lab.namespaces import NamedNamespace
from ops.lab.programs import run

SOCKET_TIMEOUT_S: Final = 5.0
BACKEND_ADDRESSES: Final = {
    4: ("10.7.0.1", "10.7.0.2", "10.7.0.3"),
    6: ("fd00:7::1", "fd00:7::2", "fd00:7::3"),
}
SERVICE_ADDRESS: Final = {4: "10.96.0.10", 6: "fd00:96::10"}
SERVICE_PORT: Final = 80
BACKEND_PORT: Final = 8080
SOCKET_KINDS: Final = {"TCP": sockets.SOCK_STREAM, "UDP": sockets.SOCK_DGRAM}
PROTOCOL_NUMBERS: Final = {"TCP": 6, "UDP": 17}
AF: Final = {4: sockets.AF_INET, 6: sockets.AF_INET6}


class ClusterIPHarness:
    """``named`` runs commands in the namespace; ``socket`` opens sockets there."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        self.bpffs = directory / "bpf"
        self.executor = NetnsExecutor()
        self._stack.callback(self.executor.close)
        name = f"owt-{os.getpid()}-{secrets.token_hex(3)}"
        self.named = NamedNamespace(name)
        self.named.create()
        self._stack.callback(self.named.delete)
        for text in (*BACKEND_ADDRESSES[4], *BACKEND_ADDRESSES[6]):
            nodad = ["nodad"] if ":" in text else []
            self.named.ip("address", "add", text, "dev", "lo", *nodad)
        self.inside = self._stack.enter_context(NetworkNamespace.open(str(self.named.path)))
        self.cgroup = Path(cgroup2_mounts()[0]) / name
        self._enter_cgroup()

    def close(self) -> None:
        self._stack.close()

    def mount_bpffs(self) -> None:
        self.bpffs.mkdir()
        run(["mount", "-t", "bpf", "none", str(self.bpffs)])
        self._stack.callback(run, ["umount", str(self.bpffs)])

    def install(self, desired: DesiredPrograms = DesiredPrograms(skipped_netns=0)) -> Installation:
        installation = Installation.open(self.bpffs)
        self._stack.callback(installation.close)
        installation.attach(self.cgroup, desired)
        return installation

    def serve(self, installation: Installation, frontends: dict[Frontend, BackendGroup]) -> None:
        """Write these frontends to the maps and remove all others."""
        steps, _ = plan(contents_of(installation.read()), frontends)
        installation.write(steps)

    def socket(self, family: int, protocol: str = "TCP") -> sockets.socket:
        new_socket = self.executor.socket(self.inside, AF[family], SOCKET_KINDS[protocol], 0)
        self._stack.callback(new_socket.close)
        new_socket.settimeout(SOCKET_TIMEOUT_S)
        return new_socket

    def server(
        self, address: str, protocol: str = "TCP", port: int = BACKEND_PORT
    ) -> sockets.socket:
        server_socket = self.socket(6 if ":" in address else 4, protocol)
        server_socket.bind((address, port))
        if protocol == "TCP":
            server_socket.listen()
        return server_socket

    def _enter_cgroup(self) -> None:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        name = next(line.removeprefix("0::/") for line in lines if line.startswith("0::"))
        old_cgroup = self.cgroup.parent / name
        self.cgroup.mkdir()
        self._stack.callback(self.cgroup.rmdir)
        (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        self._stack.callback((old_cgroup / "cgroup.procs").write_text, str(os.getpid()))


def frontend(family: int, protocol: str = "TCP", port: int = SERVICE_PORT) -> Frontend:
    return Frontend(address_bytes(SERVICE_ADDRESS[family]), port, PROTOCOL_NUMBERS[protocol])


def backends_of(family: int, *numbers: int) -> tuple[TransportAddress, ...]:
    """The backends with these indices in ``BACKEND_ADDRESSES``."""
    return tuple(
        TransportAddress(address_bytes(BACKEND_ADDRESSES[family][number]), BACKEND_PORT)
        for number in numbers
    )
