"""orbctl through kubectl: it runs in a controller's Pod, for people who cannot reach etcd.

A controller's Pod has the program, the endpoints of etcd, its certificates and the archive. Who may
``exec`` into it needs no certificates of etcd. Files of this machine are passed as standard input;
output and exit code come back. User and host of this machine are passed along and recorded in every
event, as with a local run: they are a claim, like the user name of a shell.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core.errors import NotFound, OrbweaverError
from ops.cli.application import app
from ops.cli.command_line import ParsedOption, parse_options, program_of
from ops.cli.global_options import WHO
from ops.cli.input_files import STANDARD_INPUT, read_texts

OPTIONS: Final = ("--context", "--kubeconfig", "--system-namespace")
"""They name the cluster; a run with any of them goes through kubectl. Each takes a value."""

ETCD: Final = ("--etcd", "ORBWEAVER_ETCD_ENDPOINTS")
"""The option and the variable with which a run connects to etcd itself."""

LOCAL: Final = frozenset(
    (
        *("completion", "crds", "help", "install", "migrate", "nad", "node", "replay"),
        *("trace-path", "version"),
    )
)
"""Commands that need no cluster, or are about this machine."""

OWN_OPTIONS: Final = ("gc", "import")
"""They have options of the same names, with which they connect to an API server themselves."""

FILE_OPTIONS: Final = ("--filename", "--request")
RECURSIVE: Final = "--recursive"
SELECTOR: Final = "app.kubernetes.io/part-of=orbweaver,app.kubernetes.io/component=controller"
FIND_DEADLINE_S: Final = 30

Finder = Callable[[Sequence[str]], str]


class Remote(NamedTuple):
    """The call of kubectl, and its standard input; None: the standard input of this process."""

    command: list[str]
    stdin: bytes | None


def is_remote(arguments: Sequence[str], variables: Mapping[str, str], *, as_plugin: bool) -> bool:
    """Whether a run goes through kubectl: as its plugin, or when an option names the cluster."""
    names = {option.name for option in _parsed(arguments)}
    command = _command(arguments)
    is_direct = ETCD[0] in names or bool(variables.get(ETCD[1]))
    if command in LOCAL or (command == "import" and not names & set(FILE_OPTIONS)):
        return False
    if names & set(OPTIONS) and command not in OWN_OPTIONS:
        return True
    return as_plugin and bool(command) and not is_direct and not names & {"--help", "--version"}


def run(arguments: Sequence[str], who: str) -> int:
    """Run orbctl in a controller's Pod; its exit code. Raises BadInput, NotFound."""
    remote = prepare(arguments, who, is_terminal=sys.stdin.isatty() and sys.stdout.isatty())
    return subprocess.run(remote.command, input=remote.stdin, check=False).returncode


def prepare(
    arguments: Sequence[str], who: str, *, is_terminal: bool, find: Finder | None = None
) -> Remote:
    """The call of kubectl. Raises BadInput, NotFound."""
    options, rest = _split(arguments)
    kubectl = ["kubectl", *(f"{name}={options[name]}" for name in OPTIONS[:2] if name in options)]
    rest, stdin = _with_files(rest)
    namespace, pod = _controller(kubectl, options.get(OPTIONS[2], ""), find or _kubectl_output)
    reads = stdin is not None or any(word == "-" or word.endswith("=-") for word in rest)
    flags = ["-i"] if reads else ["-it"] if is_terminal else []
    inside = ["env", f"{WHO}={who}", "orbctl", *rest]
    target = ["exec", *flags, "-n", namespace, pod, "-c", "controller", "--"]
    return Remote([*kubectl, *target, *inside], stdin if reads or is_terminal else b"")


def _parsed(arguments: Sequence[str]) -> list[ParsedOption]:
    return list(parse_options(arguments, program_of(app)))


def _command(arguments: Sequence[str]) -> str:
    """The name of the command; "" if there is none."""
    return next((option.words[0] for option in _parsed(arguments) if not option.name), "")


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options for kubectl, at any position, and the rest of the line."""
    options: dict[str, str] = {}
    rest: list[str] = []
    for option in _parsed(arguments):
        if option.name not in OPTIONS:
            rest += option.words
        else:
            options[option.name] = str(option.value)
    return options, rest


def _with_files(arguments: Sequence[str]) -> tuple[list[str], bytes | None]:
    """The line with files of this machine as standard input. Raises BadInput."""
    options = _parsed(arguments)
    recursive = any(option.name == RECURSIVE for option in options)
    rest: list[str] = []
    files: list[str] = []
    for option in options:
        if option.name == RECURSIVE:
            continue
        if option.name not in FILE_OPTIONS:
            rest += option.words
            continue
        if f"{option.name}=-" not in rest:
            rest.append(f"{option.name}=-")  # once: several files become one text
        if option.value not in {None, STANDARD_INPUT}:
            files.append(str(option.value))
    if not files:
        return rest, None
    texts = [text for _, text in read_texts(files, recursive=recursive)]
    return rest, "\n---\n".join(texts).encode()


def _controller(kubectl: Sequence[str], namespace: str, find: Finder) -> tuple[str, str]:
    """Namespace and name of a controller's Pod, a ready one if possible. Raises NotFound."""
    where = ["-n", namespace] if namespace else ["-A"]
    text = find([*kubectl, "get", "pods", *where, "-l", SELECTOR, "-o", "json"])
    found: list[dict[str, Any]] = json.loads(text)["items"]
    running = [pod for pod in found if pod.get("status", {}).get("phase") == "Running"]
    if not running:
        place = f"in namespace {namespace}" if namespace else "in this cluster"
        raise NotFound(
            f"no controller runs {place}",
            subject=SELECTOR,
            remedy=f"check the context, or connect to etcd directly: {ETCD[0]} host:port",
        )
    metadata = max(running, key=_is_ready)["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _kubectl_output(command: Sequence[str]) -> str:
    """The output of kubectl. Raises OrbweaverError with its error text."""
    if shutil.which(command[0]) is None:
        raise NotFound(f"{command[0]} is not on PATH", subject="PATH", remedy="install kubectl")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=FIND_DEADLINE_S
    )
    if done.returncode:
        raise OrbweaverError(done.stderr.strip() or f"kubectl ended with {done.returncode}")
    return done.stdout
