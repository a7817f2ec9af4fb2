"""The CNI side of a container runtime (CNI SPEC.md 1.1.0): runs plugins in a node's namespace.

Like libcni, the runtime stores the result of an ADD, passes it to CHECK and DEL, and deletes it
when a DEL succeeds.

Debian's macvlan 1.1.1 supports CNI up to 1.0.0, which has neither GC nor STATUS. For these two
verbs, the runtime runs the IPAM plugin directly, as a newer macvlan would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ops.lab.fabric import NODE_UPLINK
from ops.lab.identity import LABORATORY_VARIABLE, LabIdentity
from ops.lab.namespaces import NamedNamespace
from ops.lab.programs import attempt
from ops.lab.sandbox import POD_INTERFACE, Sandbox

PLUGIN_DEADLINE_S: Final = 120.0
"""The time that kubelet allows for the creation of a sandbox."""

CHAIN_VERSION: Final = "1.0.0"
IPAM_VERSION: Final = "1.1.0"
IPAM: Final = "spiderpool"
COORDINATOR: Final = "coordinator"
IFACER: Final = "ifacer"
EMPTY_MAPPING: Final[Mapping[str, Any]] = MappingProxyType({})


class CniFailed(Exception):
    """A plugin's error object."""

    def __init__(self, code: int, message: str, details: str) -> None:
        super().__init__(f"code {code}: {message}" + (f" ({details})" if details else ""))
        self.code = code
        self.message = message
        self.details = details


class ContainerRuntime:
    """The CNI side of one node's container runtime. Safe to call from several threads.

    ``directory``: where the results are stored.
    """

    def __init__(
        self,
        identity: LabIdentity,
        node: NamedNamespace,
        plugins: Path,
        directory: Path,
        ipam: Mapping[str, Any],
        network: str = "lab",
        coordinator: Mapping[str, Any] | None = None,
    ) -> None:
        self.plugins = plugins
        self.network = network
        self._identity = identity
        self._node = node
        self._cache = directory
        self._ipam = {"type": IPAM, **ipam}
        self._coordinator = coordinator
        self.variables: dict[str, str] = {}
        """Additional environment variables of the plugins."""

    def conflist(self, ipam: Mapping[str, Any] = EMPTY_MAPPING) -> dict[str, Any]:
        """The network configuration list. ``ipam``: additional keys for the IPAM plugin."""
        return {**self._network(), "plugins": self._plugins(ipam)}

    def _network(self) -> dict[str, Any]:
        return {"cniVersion": CHAIN_VERSION, "name": self.network}

    def _plugins(self, ipam: Mapping[str, Any] = EMPTY_MAPPING) -> list[dict[str, Any]]:
        macvlan = {
            "type": "macvlan",
            "master": NODE_UPLINK,
            "mode": "bridge",
            "ipam": {**self._ipam, **ipam},
        }
        if self._coordinator is None:
            return [macvlan]
        return [macvlan, {"type": COORDINATOR, **self._coordinator}]

    def add(self, sandbox: Sandbox, ipam: Mapping[str, Any] = EMPTY_MAPPING) -> dict[str, Any]:
        """Run ADD and return its result. ``ipam``: see ``conflist``. Raises CniFailed."""
        result: dict[str, Any] = {}
        for plugin in self._plugins(ipam):
            previous = {"prevResult": result} if result else {}
            result = self._call("ADD", sandbox, plugin, previous)
        sandbox.result = result
        self._cache.mkdir(parents=True, exist_ok=True)
        document = {"containerID": sandbox.container, "ifname": POD_INTERFACE, "result": result}
        self._result_path(sandbox).write_text(json.dumps(document))
        return result

    def delete(self, sandbox: Sandbox) -> None:
        """Run DEL. Raises CniFailed, after which the caller must repeat the DEL."""
        for plugin in reversed(self._plugins()):
            self._call("DEL", sandbox, plugin, self._previous_result(sandbox))
        self._result_path(sandbox).unlink(missing_ok=True)

    def check(self, sandbox: Sandbox) -> None:
        """Run CHECK. Raises CniFailed."""
        for plugin in self._plugins():
            self._call("CHECK", sandbox, plugin, self._previous_result(sandbox))

    def forget(self, sandbox: Sandbox) -> None:
        """Delete the stored result, as if the disk of the node were lost."""
        self._result_path(sandbox).unlink(missing_ok=True)

    def collect_garbage(self) -> None:
        """Run GC for all attachments except those with a stored result. Raises CniFailed."""
        entries = [json.loads(path.read_text()) for path in sorted(self._cache.glob("*.json"))]
        valid = [
            {"containerID": entry["containerID"], "ifname": entry["ifname"]} for entry in entries
        ]
        # libcni sends the list under both keys.
        lists = {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
        self._run(IPAM, {"CNI_COMMAND": "GC"}, self._ipam_conf() | lists)
        if self._coordinator is not None:
            network = {**self._network(), "cniVersion": IPAM_VERSION, **self._plugins()[-1]}
            self._run(COORDINATOR, {"CNI_COMMAND": "GC"}, network | lists)

    def status(self) -> None:
        """Run STATUS. Raises CniFailed with code 50 or 51 if no ADD can be served."""
        self._run(IPAM, {"CNI_COMMAND": "STATUS"}, self._ipam_conf())

    def allocate(self, sandbox: Sandbox) -> dict[str, Any]:
        """Run ADD of the IPAM plugin only. Raises CniFailed."""
        return self._run(IPAM, self._environment("ADD", sandbox), self._netconf())

    def add_vlan(self, sandbox: Sandbox, interface: str, vlan: int) -> None:
        """Run ADD of ifacer only, to create a VLAN interface on the node. Raises CniFailed."""
        socket = {"ipam_unix_socket_path": self._ipam["ipam_unix_socket_path"]}
        conf = {**self._network(), "type": IFACER, "interfaces": [interface], "vlanID": vlan}
        self._run(IFACER, self._environment("ADD", sandbox), {**conf, **socket})

    def _call(
        self,
        verb: str,
        sandbox: Sandbox,
        plugin: Mapping[str, Any],
        previous: Mapping[str, Any],
    ) -> dict[str, Any]:
        conf = {**self._network(), **plugin, **previous}
        return self._run(plugin["type"], self._environment(verb, sandbox), conf)

    def _netconf(self) -> dict[str, Any]:
        return {**self._network(), **self._plugins()[0]}

    def _ipam_conf(self) -> dict[str, Any]:
        return {**self._netconf(), "cniVersion": IPAM_VERSION}

    def _previous_result(self, sandbox: Sandbox) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            return {"prevResult": json.loads(self._result_path(sandbox).read_text())["result"]}
        return {}

    def _result_path(self, sandbox: Sandbox) -> Path:
        return self._cache / f"{self.network}-{sandbox.container}-{POD_INTERFACE}.json"

    def _environment(self, verb: str, sandbox: Sandbox) -> dict[str, str]:
        # The specification allows an empty CNI_NETNS if the namespace does not exist any more.
        netns = str(sandbox.namespace.path) if sandbox.namespace.exists else ""
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox.container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": POD_INTERFACE,
            "CNI_ARGS": sandbox.arguments,
        }

    def _run(
        self, plugin: str, environment: Mapping[str, str], conf: Mapping[str, Any]
    ) -> dict[str, Any]:
        done = attempt(
            self._node.inside([str(self.plugins / plugin)]),
            stdin=json.dumps(conf),
            environment={
                **self.variables,
                **environment,
                "CNI_PATH": str(self.plugins),
                "PATH": os.environ.get("PATH", os.defpath),
                LABORATORY_VARIABLE: str(self._identity),
            },
            deadline_s=PLUGIN_DEADLINE_S,
        )
        try:
            answer = json.loads(done.stdout) if done.stdout.strip() else {}
        except ValueError:
            answer = {"msg": f"not JSON: {done.stdout[:200]!r}"}
        if done.returncode:
            message = answer.get("msg") or done.stderr.strip() or "no output"
            raise CniFailed(answer.get("code", done.returncode), message, answer.get("details", ""))
        return dict(answer)
