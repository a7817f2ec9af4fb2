"""Runs the CNI executables as processes, with only the environment that a test sets."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cni.build import COMPILER_FLAGS, compile_plugin, compiler
from ops.installer import EXECUTABLE_MODE
from tests.cni.fake_agent import Behaviour, FakeAgent

# CNI error codes
TRY_AGAIN_LATER = 11
INVALID_NETCONF = 7

CALL_DEADLINE_S = 60
LOG_FOLDER = Path(tempfile.gettempdir()).resolve()


@functools.cache
def compiled(
    constants: tuple[tuple[str, str], ...] = (), flags: tuple[str, ...] = COMPILER_FLAGS
) -> bytes:
    """Compile the C program with these (name, value) pairs of C constants; return its bytes."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "plugin"
        # Sanitizers need the machine's C library; the default compiler uses musl.
        command = () if flags == COMPILER_FLAGS else compiler()
        compile_plugin(program, flags, dict(constants), command)
        return program.read_bytes()


def c_string(value: object) -> str:
    return f'"{value}"'


class Spiderpool:
    """The executable ``spiderpool``, installed in a directory."""

    name = "spiderpool"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = directory / "agent.sock"
        self.path = directory / self.name
        # All tests share the log directory: it is a C constant, and compiling takes long.
        self.log_path = LOG_FOLDER / f"{directory.name}-{self.name}.log"
        self.install()

    def install(self, **constants: str) -> None:
        all_constants = {"LOG_DIRECTORY": c_string(LOG_FOLDER)} | constants
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(compiled(tuple(sorted(all_constants.items()))))
        self.path.chmod(EXECUTABLE_MODE)

    def environment(self, verb: str) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop",
            "CNI_PATH": "/opt/cni/bin",
        }

    def netconf(self, **ipam: object) -> bytes:
        defaults = {
            "type": "spiderpool",
            "ipam_unix_socket_path": str(self.socket_path),
            "log_file_path": str(self.log_path),
        }
        document = {
            "cniVersion": "1.0.0",
            "name": "lan",
            "type": "macvlan",
            "ipam": defaults | ipam,
        }
        return json.dumps(document).encode()

    def call(
        self, verb: str = "ADD", netconf: bytes | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the executable once; ``options`` are arguments of ``subprocess.run``."""
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
        return FakeAgent(self.socket_path, behave)


class Ifacer(Spiderpool):
    """The executable ``ifacer``; socket path and log file are top-level fields of the netconf."""

    name = "ifacer"

    def netconf(self, **fields: object) -> bytes:
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
    """The executable ``coordinator``; the log options are in the netconf's ``logOptions``."""

    name = "coordinator"

    def netconf(self, **fields: object) -> bytes:
        document = {
            "cniVersion": "1.0.0",
            "name": "lan",
            "type": "coordinator",
            "ipam_unix_socket_path": str(self.socket_path),
            "logOptions": {"logFile": str(self.log_path)},
        }
        return json.dumps(document | fields).encode()


def error_of(result: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """Check and return the CNI error object that a failed call printed."""
    assert result.returncode == 1
    assert result.stderr == b""
    error = json.loads(result.stdout)
    assert list(error) == ["cniVersion", "code", "msg", "details"]
    assert [type(value) for value in error.values()] == [str, int, str, str]
    return dict(error)
