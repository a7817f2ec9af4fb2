"""Runs orbctl in a Pod through ``kubectl exec``, for users who cannot reach etcd or a node.

A command about a node runs in the Pod of that node's agent. ``node clean`` creates its own Pod.
Other commands run in a controller's Pod. Files of this machine are passed as standard input. Events
record the caller's user and host, which orbctl does not verify.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import core
from core.errors import BadInput, NotFound, OrbweaverError
from ops.cli import cleanup_pod
from ops.cli.command_line import END_OF_OPTIONS, ParsedOption, parse_options, program_of
from ops.cli.exit_codes import Exit
from ops.cli.global_options import WHO_VARIABLE
from ops.cli.input_files import STANDARD_INPUT, read_texts
from ops.cli.orbctl_application import app

KUBECTL_OPTIONS: Final = ("--context", "--kubeconfig")
SYSTEM_NAMESPACE: Final = "--system-namespace"
OPTIONS: Final = (*KUBECTL_OPTIONS, SYSTEM_NAMESPACE)
"""Options that name the cluster; with one of them, orbctl runs through kubectl."""

ETCD_OPTION: Final = "--etcd"
ETCD_VARIABLE: Final = "ORBWEAVER_ETCD_ENDPOINTS"
"""With this variable or ``--etcd``, orbctl connects to etcd directly."""

LOCAL_COMMANDS: Final = frozenset(
    ("completion", "crds", "help", "install", "migrate", "nad", "replay", "version")
)
"""Commands that need no cluster, or are about this machine."""

COMMANDS_WITH_OWN_OPTIONS: Final = ("gc", "import")
"""Commands with their own --context and --kubeconfig."""

FILE_OPTIONS: Final = ("--filename", "--request")
RECURSIVE: Final = "--recursive"
NODE_FOLDERS: Final = "--nodes"
"""The option for folders, which cannot be passed as standard input."""

NODE_DOCTOR: Final = ("node", "doctor")
"""Without a node, the command checks this machine."""

NODE_CLEAN: Final = ("node", "clean")
"""Without a node, the command cleans this machine."""

TRACE_PATH: Final = "trace-path"
"""The agent on the Pod's node runs this command."""

SELECTOR: Final = "app.kubernetes.io/part-of=orbweaver,app.kubernetes.io/component="
CONTROLLER: Final = "controller"
AGENT: Final = "agent"
KUBECTL_DEADLINE_S: Final = 30
"""Limit for a kubectl command, except the one that runs the user's command."""

NO_PROGRAM: Final = 127
"""Exit code of env(1) if a program is not on PATH."""

Finder = Callable[[Sequence[str]], str]
"""Runs a kubectl command; returns the output."""


class Remote(NamedTuple):
    """The kubectl command. If ``stdin`` is None, it reads the standard input of this process.

    ``node``: the node whose agent's Pod runs orbctl; "": a controller's Pod runs orbctl.
    """

    command: list[str]
    stdin: bytes | None
    node: str = ""


def is_remote(arguments: Sequence[str], variables: Mapping[str, str], *, as_plugin: bool) -> bool:
    """Whether orbctl runs through kubectl."""
    names = {option.name for option in _parsed(arguments)}
    command = _command(arguments)
    is_direct = ETCD_OPTION in names or bool(variables.get(ETCD_VARIABLE))
    if command == "node":
        return any(_node_of_line(arguments, two_words) for two_words in (NODE_DOCTOR, NODE_CLEAN))
    if command in LOCAL_COMMANDS or (command == "import" and not _reads_only_files(names)):
        return False
    if command == TRACE_PATH and "--netns" in names:
        return False
    if names & set(OPTIONS) and command not in COMMANDS_WITH_OWN_OPTIONS:
        return True
    return as_plugin and bool(command) and not is_direct and not names & {"--help", "--version"}


def run(arguments: Sequence[str], who: str) -> int:
    """Run orbctl in a Pod; return its exit code. Raises OrbweaverError."""
    if node := _node_of_line(arguments, NODE_CLEAN):
        print(_clean(arguments, node), end="")
        return Exit.OK
    remote = prepare(arguments, who, is_terminal=sys.stdin.isatty() and sys.stdout.isatty())
    code = subprocess.run(remote.command, input=remote.stdin, check=False).returncode
    if remote.node and code in {NO_PROGRAM, Exit.USAGE}:
        _check_version(remote, code)
    return code


def prepare(
    arguments: Sequence[str], who: str, *, is_terminal: bool, find: Finder | None = None
) -> Remote:
    """Make the kubectl command. Raises BadInput, NotFound."""
    find = find or _kubectl_output
    options, words = _split_options(arguments)
    kubectl = _kubectl(options)
    system_namespace = options.get(SYSTEM_NAMESPACE, "")
    node, words = _node(kubectl, words, find)
    words, stdin = _with_files(words)
    component = AGENT if node else CONTROLLER
    pods = _pods(kubectl, system_namespace, component, node, find)
    if not pods:
        raise _agent_missing(kubectl, node, find) if node else _controller_missing(system_namespace)
    metadata = max(pods, key=_is_ready)["metadata"]
    reads_stdin = stdin is not None or any(word == "-" or word.endswith("=-") for word in words)
    flags = ["-it"] if is_terminal else []
    if reads_stdin:
        flags = ["-i"]
    execute = ["exec", *flags, "-n", metadata["namespace"], metadata["name"], "-c", component, "--"]
    orbctl = ["env", f"{WHO_VARIABLE}={who}", "orbctl", *words]
    uses_stdin = reads_stdin or is_terminal
    return Remote([*kubectl, *execute, *orbctl], stdin if uses_stdin else b"", node)


def _clean(arguments: Sequence[str], node: str) -> str:
    """Return the output of the cleanup Pod. Raises OrbweaverError."""
    options, words = _split_options(arguments)
    clean_options = [option for option in _parsed(words) if option.name]
    unusable_option = next(
        (option.name for option in clean_options if option.name not in cleanup_pod.OPTIONS), ""
    )
    if unusable_option:
        text = (
            f"`node clean NODE` does not accept {unusable_option}: the cleanup Pod has fixed mounts"
        )
        raise BadInput(
            text,
            subject=unusable_option,
            remedy=f"leave out {unusable_option}, or run this on {node} as root",
        )

    def kubectl(words: Sequence[str], stdin: str) -> str:
        return _kubectl_output([*_kubectl(options), *words], stdin)

    cleaner = cleanup_pod.NodeCleaner(kubectl, options.get(SYSTEM_NAMESPACE, ""))
    return cleaner.clean(node, [word for option in clean_options for word in option.words])


def _kubectl(options: Mapping[str, str]) -> list[str]:
    return ["kubectl", *(f"{name}={options[name]}" for name in KUBECTL_OPTIONS if name in options)]


def _reads_only_files(names: set[str]) -> bool:
    return bool(names & set(FILE_OPTIONS)) and NODE_FOLDERS not in names


def _parsed(arguments: Sequence[str]) -> list[ParsedOption]:
    return list(parse_options(arguments, program_of(app)))


def _command(arguments: Sequence[str]) -> str:
    return next(iter(_positional(arguments)), "")


def _positional(arguments: Sequence[str]) -> list[str]:
    words = [option.words[0] for option in _parsed(arguments) if not option.name]
    return [word for word in words if word != END_OF_OPTIONS]


def _node_of_line(arguments: Sequence[str], command: tuple[str, str] = NODE_DOCTOR) -> str:
    """The node that the line names after ``command``, or ""."""
    words = _positional(arguments)
    return words[2] if tuple(words[:2]) == command and len(words) > len(command) else ""


def _node(kubectl: Sequence[str], arguments: Sequence[str], find: Finder) -> tuple[str, list[str]]:
    """The node whose agent runs the line ("": none), and the rest of the line. Raises NotFound."""
    if node := _node_of_line(arguments):
        words = list(arguments)
        last_index = len(words) - 1 - words[::-1].index(node)
        del words[last_index]
        return node, words
    if _command(arguments) != TRACE_PATH:
        return "", list(arguments)
    pod_argument = next(iter(_positional(arguments)[1:]), "")
    options = {option.name: option.value for option in _parsed(arguments)}
    namespace, _, name = pod_argument.rpartition("/")
    namespace = namespace or options.get("--namespace") or "default"
    text = find([*kubectl, "get", "pod", "-n", namespace, name, "--ignore-not-found", "-o", "json"])
    if not text.strip():
        raise NotFound(
            f"there is no Pod {namespace}/{name}",
            subject=pod_argument,
            remedy=f"`kubectl get pods -n {namespace}` lists the Pods",
        )
    node = str(json.loads(text)["spec"].get("nodeName", ""))
    if not node:
        raise NotFound(
            f"Pod {namespace}/{name} is not scheduled yet",
            subject=pod_argument,
            remedy="try again when the Pod has a node",
        )
    return node, list(arguments)


def _split_options(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options in ``OPTIONS``, and the other words of the line."""
    options: dict[str, str] = {}
    words: list[str] = []
    for option in _parsed(arguments):
        if option.name not in OPTIONS:
            words += option.words
        else:
            options[option.name] = str(option.value)
    return options, words


def _with_files(arguments: Sequence[str]) -> tuple[list[str], bytes | None]:
    """The line with ``-`` in place of files, and the files' content. Raises BadInput.

    The content is None if standard input is the only file: kubectl passes it on.
    """
    options = _parsed(arguments)
    recursive = any(option.name == RECURSIVE for option in options)
    words: list[str] = []
    files: list[str] = []
    for option in options:
        if option.name == RECURSIVE:
            continue
        if option.name not in FILE_OPTIONS:
            words += option.words
            continue
        if f"{option.name}=-" not in words:
            words.append(f"{option.name}=-")  # only once: all files become one text
        if option.value is not None:
            files.append(option.value)
    if set(files) <= {STANDARD_INPUT}:
        return words, None
    texts = [text for _, text in read_texts(files, recursive=recursive)]
    return words, "\n---\n".join(texts).encode()


def _pods(
    kubectl: Sequence[str], namespace: str, component: str, node: str, find: Finder
) -> list[dict[str, Any]]:
    scope = ["-n", namespace] if namespace else ["-A"]
    on_node = [f"--field-selector=spec.nodeName={node}"] if node else []
    selected = ["-l", f"{SELECTOR}{component}", *on_node, "-o", "json"]
    pods: list[dict[str, Any]] = json.loads(find([*kubectl, "get", "pods", *scope, *selected]))[
        "items"
    ]
    return [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]


def _controller_missing(namespace: str) -> NotFound:
    scope = f"in namespace {namespace}" if namespace else "in this cluster"
    return NotFound(
        f"no controller runs {scope}",
        subject=f"{SELECTOR}{CONTROLLER}",
        remedy=f"check --context and {SYSTEM_NAMESPACE}, or connect to etcd directly:"
        f" {ETCD_OPTION} host:port",
    )


def _agent_missing(kubectl: Sequence[str], node: str, find: Finder) -> NotFound:
    if not find([*kubectl, "get", "node", node, "--ignore-not-found", "-o", "name"]).strip():
        return NotFound(
            f"there is no node {node}", subject=node, remedy="`kubectl get nodes` lists the nodes"
        )
    return NotFound(
        f"no agent runs on node {node}",
        subject=f"{SELECTOR}{AGENT}",
        remedy="see `kubectl describe daemonset orbweaver-agent`; agents run on the nodes that"
        " spiderpoolAgent.nodeSelector, affinity and tolerations select",
    )


def _check_version(remote: Remote, code: int) -> None:
    """Raise OrbweaverError unless the agent's Pod has this version of orbctl."""
    agent = f"the agent on node {remote.node}"
    if code == NO_PROGRAM:
        remedy = f"upgrade the chart to version {core.__version__}, the version of this orbctl"
        raise OrbweaverError(f"{agent} is too old: it has no orbctl", remedy=remedy)
    end = remote.command.index("orbctl") + 1
    version = _kubectl_output([*remote.command[:end], "--version"]).strip().rpartition(" ")[2]
    if version != core.__version__:
        text = f"{agent} has orbctl {version}, which may lack this command or option"
        remedy = f"install version {core.__version__} of the chart, or use orbctl {version}"
        raise OrbweaverError(f"{text}; this orbctl is {core.__version__}", remedy=remedy)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )


def _kubectl_output(command: Sequence[str], stdin: str = "") -> str:
    """Raises OrbweaverError if kubectl fails or times out."""
    if shutil.which(command[0]) is None:
        raise NotFound(f"{command[0]} is not on PATH", subject="PATH", remedy="install kubectl")
    try:
        completed = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=KUBECTL_DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        raise OrbweaverError(
            f"kubectl did not end within {KUBECTL_DEADLINE_S} s",
            remedy="check that the API server of the cluster can be reached",
        ) from None
    if completed.returncode:
        words = " ".join(command)
        reason = completed.stderr.strip() or f"exit code {completed.returncode}"
        raise OrbweaverError(f"`{words}` failed: {reason}")
    return completed.stdout
