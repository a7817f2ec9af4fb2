"""The two sides of a comparison: Orbweaver and another IPAM plugin, each with its own servers.

If the other plugin has a start command, its servers are an etcd and the processes of the command.
With ``kubernetes``, each etcd also serves an API server, and both API servers have the same Pods.
Context managers stop every process that this module starts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from bench.measures.calls import UNLIMITED_ALLOCATIONS
from bench.rig import processes
from bench.rig.controller import ControllerProcess
from bench.rig.frames import environment, netconf
from bench.rig.kubernetes import NODE, api_server, define_kinds, write_cluster, write_pools
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.process.environment import KUBECONFIG_VARIABLE
from ops import installer
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import ApiServer

STOP_S_MAX: Final = 20.0
_POLL_S: Final = 0.1
_LOG_CHARACTERS: Final = 2_000


class SideFailed(Exception):
    """A plugin or the network namespace is not ready; the text says why."""


class Rival(NamedTuple):
    """The other plugin.

    ``plugin``: the executable. ``conf``: the network configuration, in which ``@ROOM@`` stands for
    a temporary directory. ``start``: a shell command that starts the plugin's daemons, or "".
    """

    plugin: Path
    conf: str
    start: str
    cni_path: str


class Side(NamedTuple):
    """One plugin that can be called.

    ``directory``: for the output of calls. ``etcd``: the etcd of the API server. ``cpu_s``: returns
    the CPU seconds of all servers and daemons. ``may_be_starting``: whether the daemons may
    still be starting. ``failure``: returns why the daemons failed, or "".
    """

    name: str
    command: str
    netconf: Path
    variables: Mapping[str, str]
    directory: Path
    etcd: EtcdCluster | None
    cpu_s: Callable[[], float]
    may_be_starting: bool = False
    failure: Callable[[], str] = lambda: ""

    def call(self, lab: Lab, verb: str, serials: Sequence[int], callers: int) -> dict[str, Any]:
        """Run the executable once per Pod; return the report of ``bench.callers.executables``."""
        environments = [{**environment(verb, serial), **self.variables} for serial in serials]
        parameters = {"command": [self.command], "environments": environments, "callers": callers}
        paths = {"stdin": str(self.netconf), "directory": str(self.directory)}
        return lab.call("executables", parameters | paths)


@contextmanager
def orbweaver_side(
    lab: Lab, pods: Sequence[int], variables: Mapping[str, str], *, kubernetes: bool
) -> Iterator[Side]:
    """Start Orbweaver's side."""
    pools: list[Pool] = []

    async def fill(store: KeyValueStore, keys: Keys) -> None:
        pools.extend(await write_pools(store, [wide_pool()]))
        await SeedWriter(store, keys, "operator").define(pools)
        await write_cluster(store, pods)

    etcd = lab.etcd(lab.seed("orbweaver", fill))
    with ExitStack() as stack:
        server = _start_servers(stack, lab, etcd, kubernetes=kubernetes)
        settings = {KUBECONFIG_VARIABLE: str(server.kubeconfig)} if server is not None else {}
        if server is not None:
            define_kinds(server)
        controller = stack.enter_context(
            ControllerProcess(lab.new_directory("controller"), etcd.endpoints[0], settings)
        )
        agent = stack.enter_context(lab.agent(etcd, NODE, {**UNLIMITED_ALLOCATIONS, **settings}))
        directory = lab.new_directory("orbweaver")
        installer.install(directory / "bin", directory / "net.d")
        conf = directory / "netconf"
        conf.write_bytes(netconf(socket_path=str(agent.socket_path)))

        def cpu_s() -> float:
            return agent.cpu_s() + controller.cpu_s() + _servers_cpu_s(etcd, server)

        plugin = str(directory / "bin" / "spiderpool")
        api_etcd = etcd if server is not None else None
        yield Side("orbweaver", plugin, conf, variables, directory, api_etcd, cpu_s)


@contextmanager
def rival_side(
    lab: Lab, pods: Sequence[int], rival: Rival, variables: Mapping[str, str], *, kubernetes: bool
) -> Iterator[Side]:
    """Start the other plugin's side."""

    async def fill(store: KeyValueStore, _: Keys) -> None:
        await write_cluster(store, pods)

    directory = lab.new_directory("other")
    netconf_path = directory / "netconf"
    netconf_path.write_text(rival.conf.replace("@ROOM@", str(directory)))
    with ExitStack() as stack:
        etcd = server = daemons = None
        if rival.start:
            etcd = lab.etcd(lab.seed("other", fill))
            server = _start_servers(stack, lab, etcd, kubernetes=kubernetes)
            daemons = stack.enter_context(_StartCommand(rival.start, directory, server))

        def cpu_s() -> float:
            servers = _servers_cpu_s(etcd, server) if etcd is not None else 0.0
            return servers + (daemons.cpu_s() if daemons is not None else 0.0)

        api_etcd = etcd if server is not None else None
        plugin = rival.plugin
        side = Side(plugin.name, str(plugin), netconf_path, variables, directory, api_etcd, cpu_s)
        if daemons is not None:
            side = side._replace(may_be_starting=True, failure=daemons.failure)
        yield side


@contextmanager
def network_namespace() -> Iterator[str]:
    """Create a network namespace; yield its path. Raises SideFailed."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != b"ready\n":
            why = process.stderr.read().decode(errors="replace").strip()
            raise SideFailed(f"cannot create a network namespace: {why}; run against.sh as root")
        yield f"/proc/{process.pid}/ns/net"
    finally:
        process.kill()
        process.communicate()


def _start_servers(
    stack: ExitStack, lab: Lab, etcd: EtcdCluster, *, kubernetes: bool
) -> ApiServer | None:
    if kubernetes:
        return stack.enter_context(api_server(lab.new_directory("kube"), etcd))
    stack.enter_context(etcd)
    return None


def _servers_cpu_s(etcd: EtcdCluster, server: ApiServer | None) -> float:
    pids = [member.pid for member in etcd.members]
    return sum(map(processes.cpu_s, pids + ([server.pid] if server is not None else [])))


class _StartCommand:
    """The start command, run in its own process group."""

    def __init__(self, command: str, directory: Path, server: ApiServer | None) -> None:
        self._log = directory / "start.log"
        settings = {"ROOM": str(directory), "NODE_NAME": NODE}
        if server is not None:
            settings["KUBECONFIG"] = str(server.kubeconfig)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", command],
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        ends = time.monotonic() + STOP_S_MAX
        while (self._process.poll() is None or self._members()) and time.monotonic() < ends:
            time.sleep(_POLL_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def failure(self) -> str:
        """Why the daemons do not run, or ""."""
        status = self._process.poll()
        if status is None or (status == 0 and self._members()):
            return ""
        output = self._log.read_text(errors="replace")[-_LOG_CHARACTERS:]
        return f"the command of --start exited with {status}: {output}"

    def cpu_s(self) -> float:
        """CPU seconds of the running processes of the group."""
        return sum(map(processes.cpu_s, self._members()))

    def _members(self) -> list[int]:
        return processes.running_group_members(self._process.pid)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
