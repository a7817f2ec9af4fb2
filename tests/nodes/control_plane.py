"""The control plane: an API server, a controller manager and a scheduler in the fabric's namespace.

The fabric is the laboratory's simulated network. Kubelets, agents and controllers have only the
permissions of production (docs/reference/rights.md), so a missing permission fails a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from ops.lab.daemons import Daemon
from ops.lab.identity import LABORATORY_VARIABLE
from ops.lab.laboratory import Laboratory
from tests.nodes.rights import AGENT_ACCOUNT, CONTROLLER_ACCOUNT
from tests.support.audit import Audit
from tests.support.kubernetes import KUBERNETES_PROGRAMS, ApiServer

T = TypeVar("T")

NODE_NAMES: Final = ("node-a", "node-b")

EVICTED_AFTER_S: Final = 2
"""Pods leave a node that is unreachable for this time; Kubernetes' default is 300 s."""

LOST_AFTER_S: Final = 6
"""A node without a heartbeat for this time is unreachable."""

MANAGER: Final = "system:kube-controller-manager"
SCHEDULER: Final = "system:kube-scheduler"
MULTUS_USER: Final = "multus"

USERS: Final = {  # user -> group
    MANAGER: "",
    SCHEDULER: "",
    AGENT_ACCOUNT: "",
    CONTROLLER_ACCOUNT: "",
    MULTUS_USER: "system:masters",
    **{f"system:node:{name}": "system:nodes" for name in NODE_NAMES},
}


class FabricHome:
    """Places ``ApiServer`` in the fabric's namespace, with the laboratory's etcd."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.address = laboratory.fabric.address
        self.etcd_endpoints = (laboratory.etcd.endpoint,)
        self._laboratory = laboratory
        self._executor = NetnsExecutor()
        self._namespace = NetworkNamespace.open(str(laboratory.fabric.namespace.path))

    def open(self) -> None:
        """Do nothing: the laboratory has already started etcd."""

    def close(self) -> None:
        self._namespace.close()
        self._executor.close()

    def inside(self, command: Sequence[str]) -> list[str]:
        """Prefix ``command`` so that it runs in the fabric's namespace and ends with its parent."""
        with_mark = ["env", f"{LABORATORY_VARIABLE}={self._laboratory.identity}", *command]
        ending_with_parent = ["setpriv", "--pdeathsig", "KILL", "--", *with_mark]
        return self._laboratory.fabric.namespace.inside(ending_with_parent)

    def visit(self, work: Callable[[], T]) -> T:
        """Call a function in the fabric's namespace; return its result."""
        return self._executor.submit(self._namespace, work).result()


class ControlPlane:
    """A context manager that runs the control plane."""

    def __init__(
        self, laboratory: Laboratory, flags: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        self.directory = laboratory.directory / "kubernetes"
        self.directory.mkdir()
        self.audit = Audit(self.directory, (AGENT_ACCOUNT, CONTROLLER_ACCOUNT))
        self.server = ApiServer(
            self.directory, FabricHome(laboratory), flags={**self._flags(), **flags}, users=USERS
        )
        self._daemons = [
            self._create_daemon(
                laboratory, "kube-controller-manager", MANAGER, self._manager_flags()
            ),
            self._create_daemon(laboratory, "kube-scheduler", SCHEDULER, {}),
        ]

    def __enter__(self) -> Self:
        self.server.__enter__()
        for daemon in self._daemons:
            daemon.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self._daemons:
            daemon.kill()
        self.server.__exit__(kind, error, trace)

    def _flags(self) -> dict[str, object]:
        return {
            **self.audit.flags(),
            "authorization-mode": "Node,RBAC",
            "disable-admission-plugins": None,  # remove the flag of ApiServer
            "kubelet-preferred-address-types": "InternalIP",
            "default-not-ready-toleration-seconds": EVICTED_AFTER_S,
            "default-unreachable-toleration-seconds": EVICTED_AFTER_S,
        }

    def _manager_flags(self) -> dict[str, object]:
        return {
            "service-account-private-key-file": self.directory / "server.key",
            "root-ca-file": self.directory / "ca.crt",
            "use-service-account-credentials": "true",
            "node-monitor-period": "1s",
            "node-monitor-grace-period": f"{LOST_AFTER_S}s",
            "concurrent-deployment-syncs": 5,
        }

    def _create_daemon(
        self, laboratory: Laboratory, program: str, user: str, flags: dict[str, object]
    ) -> Daemon:
        kubeconfig = self.server.kubeconfig_of(user)
        flags = {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": "127.0.0.1",
            "leader-elect": "false",
            **flags,
        }
        return Daemon(
            laboratory.identity,
            laboratory.fabric.namespace,
            [
                str(KUBERNETES_PROGRAMS / program),
                *(f"--{name}={value}" for name, value in flags.items()),
            ],
            Path(self.directory / f"{program}.log"),
            {},
        )
