"""orbctl for a cluster that one cannot reach etcd of: it runs beside a controller, through kubectl.

A controller's Pod has the program, the way to etcd, its certificates and the archive; who may
``exec`` into it may do what orbctl does, and nobody carries etcd's keys about. Files that are named
on this machine go along as standard input; output and exit code come back. Who it was is told and
recorded in every event, as with a run on this machine: a claim like the user name of a shell.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from core.errors import BadInput, NotFound, OrbweaverError
from ops.cli.arguments import ParsedOption, parse_options, program_of
from ops.cli.session import WHO

OPTIONS: Final = ("--context", "--kubeconfig", "--system-namespace")
"""Where the cluster is; anyone of them makes a run a remote one. Each takes a value."""

ETCD: Final = ("--etcd", "ORBWEAVER_ETCD_ENDPOINTS")
"""The option and the variable with which a run goes to etcd by itself."""

LOCAL: Final = frozenset(("crds", "install", "nad", "node", "replay", "trace-path", "version"))
"""Commands that need no cluster, or are about this very machine."""

OWN_OPTIONS: Final = ("gc", "import")
"""They ask an API server themselves, by options of the same names; the plugin asks for them."""

FILE_OPTIONS: Final = ("-f", "--filename", "--request")
SELECTOR: Final = "app.kubernetes.io/part-of=orbweaver,app.kubernetes.io/component=controller"
FIND_DEADLINE_S: Final = 30

Finder = Callable[[Sequence[str]], str]


class Remote(NamedTuple):
    """What to run with kubectl, and what to give it as standard input; None for this one's."""

    command: list[str]
    stdin: bytes | None


def is_remote(arguments: Sequence[str], variables: Mapping[str, str], *, as_plugin: bool) -> bool:
    """Whether a run goes through kubectl: as its plugin, or where an option says which cluster."""
    names = {option.name for option in _parsed(arguments)}
    command = _command(arguments)
    goes_itself = ETCD[0] in names or bool(variables.get(ETCD[1]))
    if command in LOCAL or (command == "import" and not names & set(FILE_OPTIONS)):
        return False
    if names & set(OPTIONS) and command not in OWN_OPTIONS:
        return True
    return as_plugin and bool(command) and not goes_itself and not names & {"-h", "--help"}


def run(arguments: Sequence[str], who: str) -> int:
    """Run it beside a controller; its exit code. Raises BadInput, NotFound."""
    remote = prepare(arguments, who, is_terminal=sys.stdin.isatty() and sys.stdout.isatty())
    return subprocess.run(remote.command, input=remote.stdin, check=False).returncode


def prepare(
    arguments: Sequence[str], who: str, *, is_terminal: bool, find: Finder | None = None
) -> Remote:
    """The call of kubectl. Raises BadInput, NotFound."""
    said, rest = _split(arguments)
    kubectl = ["kubectl", *(f"{name}={said[name]}" for name in OPTIONS[:2] if name in said)]
    rest, stdin = _with_files(rest)
    namespace, pod = _controller(kubectl, said.get(OPTIONS[2], ""), find or _asked)
    reads = stdin is not None or "-" in rest
    flags = ["-i"] if reads else ["-it"] if is_terminal else []
    inside = ["env", f"{WHO}={who}", "orbctl", *rest]
    target = ["exec", *flags, "-n", namespace, pod, "-c", "controller", "--"]
    return Remote([*kubectl, *target, *inside], stdin if reads or is_terminal else b"")


def _parsed(arguments: Sequence[str]) -> list[ParsedOption]:
    from ops.cli.main import app  # which imports this module

    return list(parse_options(arguments, program_of(app), OPTIONS))


def _command(arguments: Sequence[str]) -> str:
    """The word that says what to do; "" where there is none."""
    return next((option.words[0] for option in _parsed(arguments) if not option.name), "")


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our options, wherever they stand, and the rest. Raises BadInput."""
    found: dict[str, str] = {}
    rest: list[str] = []
    for option in _parsed(arguments):
        if option.name not in OPTIONS:
            rest += option.words
        elif not option.value:
            raise BadInput(f"{option.name} needs a value", subject=option.name)
        else:
            found[option.name] = option.value
    return found, rest


def _with_files(arguments: Sequence[str]) -> tuple[list[str], bytes | None]:
    """The arguments with files of this machine as standard input. Raises BadInput."""
    rest: list[str] = []
    files: list[Path] = []
    for option in _parsed(arguments):
        if option.name not in FILE_OPTIONS:
            rest += option.words
            continue
        if not files:
            rest += [option.name, "-"]  # once: several files become one text
        if option.value not in (None, "-"):
            files.append(Path(str(option.value)))
    if not files:
        return rest, None
    try:
        return rest, b"\n---\n".join(path.read_bytes() for path in files)
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}", subject="-f") from None


def _controller(kubectl: Sequence[str], namespace: str, find: Finder) -> tuple[str, str]:
    """Namespace and name of a controller's Pod, one that is ready if any is. Raises NotFound."""
    where = ["-n", namespace] if namespace else ["-A"]
    text = find([*kubectl, "get", "pods", *where, "-l", SELECTOR, "-o", "json"])
    found: list[dict[str, Any]] = json.loads(text)["items"]
    running = [pod for pod in found if pod.get("status", {}).get("phase") == "Running"]
    if not running:
        place = f"in namespace {namespace}" if namespace else "in this cluster"
        raise NotFound(
            f"no controller runs {place}",
            subject=SELECTOR,
            remedy=f"is it the right cluster? With access to etcd, name it: {ETCD[0]} host:port",
        )
    metadata = max(running, key=_is_ready)["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _asked(command: Sequence[str]) -> str:
    """What kubectl answers. Raises OrbweaverError with its own words."""
    if shutil.which(command[0]) is None:
        raise NotFound(f"{command[0]} is not on PATH", subject="PATH", remedy="install kubectl")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=FIND_DEADLINE_S
    )
    if done.returncode:
        raise OrbweaverError(done.stderr.strip() or f"kubectl ended with {done.returncode}")
    return done.stdout
