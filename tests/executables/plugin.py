"""Installed executables, run as real processes with an environment that is the test's alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ops import installer
from tests.executables.fake_agent import Behaviour, FakeAgent

CALL_DEADLINE_S = 60
INTERPRETER = installer.real_interpreter(sys.executable).path


class Spiderpool:
    """The installed executable, calling the agent whose socket is ``socket_path``."""

    name = "spiderpool"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = directory / "agent.sock"
        self.path = directory / self.name
        self.log_path = directory / "plugin.log"
        self.install(LOG_PATH=repr(str(self.log_path)))

    def install(self, **constants: str) -> None:
        """Install a copy with other constants; there are no knobs in production to turn instead."""
        source = installer.source_of(self.name)
        for name, value in constants.items():
            source = replaced_last(source, f"\n{name} = ", f"\n{name} = {value}  # was ")
        self.install_source(source)

    def install_source(self, source: str) -> None:
        """Install this source."""
        self.path.write_bytes(installer.executable(source, INTERPRETER))
        self.path.chmod(installer.EXECUTABLE_MODE)

    def environment(self, verb: str) -> dict[str, str]:
        """Return what a runtime sets for this verb."""
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop",
            "CNI_PATH": "/opt/cni/bin",
        }

    def netconf(self, **ipam: object) -> bytes:
        """Return a netconf that names the test's socket and log file, with these ipam fields."""
        known = {
            "type": "spiderpool",
            "ipam_unix_socket_path": str(self.socket_path),
            "log_file_path": str(self.log_path),
        }
        document = {"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "ipam": known | ipam}
        return json.dumps(document).encode()

    def call(
        self, verb: str = "ADD", netconf: bytes | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one call to its end; ``options`` are those of subprocess.run."""
        environment = options.pop("env", self.environment(verb))
        if "stdin" not in options:
            options["input"] = self.netconf() if netconf is None else netconf
        return subprocess.run(
            [self.path],
            env=environment,
            capture_output=True,
            check=False,
            timeout=CALL_DEADLINE_S,
            **options,
        )

    def agent(self, behave: Behaviour) -> FakeAgent:
        """Return an agent at this executable's socket, to be entered."""
        return FakeAgent(self.socket_path, behave)


class Ifacer(Spiderpool):
    """The executable ``ifacer``, whose options stand beside its type."""

    name = "ifacer"

    def netconf(self, **fields: object) -> bytes:
        """Return a netconf that names the test's socket and log file, with these fields."""
        document = {
            "cniVersion": "1.0.0",
            "name": "lan",
            "type": "ifacer",
            "interfaces": ["ens3"],
            "ipam_unix_socket_path": str(self.socket_path),
            "log_file_path": str(self.log_path),
        }
        return json.dumps(document | fields).encode()


class Coordinator(Spiderpool):
    """The executable ``coordinator``, whose log is said in a section of its own."""

    name = "coordinator"

    def netconf(self, **fields: object) -> bytes:
        """Return a netconf that names the test's socket and log file, with these fields."""
        document = {
            "cniVersion": "1.0.0",
            "name": "lan",
            "type": "coordinator",
            "ipam_unix_socket_path": str(self.socket_path),
            "logOptions": {"logFile": str(self.log_path)},
        }
        return json.dumps(document | fields).encode()


def replaced_once(text: str, old: str, new: str) -> str:
    """Replace the one place where ``old`` stands, so that no patch of a test goes astray."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def replaced_last(text: str, old: str, new: str) -> str:
    """Replace the last place where ``old`` stands: of constants that one holds."""
    before, found, after = text.rpartition(old)
    assert found, old
    return f"{before}{new}{after}"


def error_of(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Return the CNI error object that a failed call printed, after checking its form."""
    assert result.returncode == 1
    assert result.stderr == b""
    error = json.loads(result.stdout)
    assert list(error) == ["cniVersion", "code", "msg", "details"]
    assert [type(value) for value in error.values()] == [str, int, str, str]
    return dict(error)
