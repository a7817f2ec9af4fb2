"""Commands that run in a Pod through kubectl."""

from __future__ import annotations

import getpass
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import core
from core.errors import BadInput, NotFound
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from ops.cli.remote import Remote, is_remote, prepare
from tests.support.etcd import EtcdCluster

POOL_KIND = "spiderippool.spiderpool.spidernet.io"

Kubectl = Callable[[Sequence[str]], str]


def scripted_kubectl(*pods: dict[str, object]) -> tuple[list[list[str]], Kubectl]:
    """The list of recorded calls, and a fake kubectl that returns these Pods."""
    calls: list[list[str]] = []

    def kubectl(command: Sequence[str]) -> str:
        calls.append(list(command))
        return json.dumps({"items": pods})

    return calls, kubectl


def pod(name: str, *, ready: bool = True, phase: str = "Running") -> dict[str, object]:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": phase, "conditions": [condition]}
    return {"metadata": {"name": name, "namespace": "net"}, "status": status}


def remote_call(*arguments: str, is_terminal: bool = False) -> Remote:
    _, kubectl = scripted_kubectl(pod("controller-a"))
    return prepare(arguments, "jo@desk", is_terminal=is_terminal, find=kubectl)


@pytest.mark.parametrize(
    ("line", "etcd", "as_plugin", "remote"),
    [
        ("get pools", "", True, True),
        ("get pools", "", False, False),
        ("-o yaml get pools", "", True, True),
        ("get pools", "10.0.0.1:2379", True, False),
        ("get pools --etcd 10.0.0.1:2379", "", True, False),
        ("get pools --context north", "", False, True),
        ("--kubeconfig=north.yaml status", "", False, True),
        ("crds", "", True, False),
        ("gc --kubeconfig north.yaml", "", False, False),
        ("gc --kubeconfig north.yaml", "", True, True),
        ("import spiderpool --context old", "", True, False),
        ("import spiderpool --context old", "10.0.0.1:2379", False, False),
        ("import spiderpool -f old.json --yes", "", True, True),
        ("crds --context north", "", True, False),
        ("nad -f net.yaml", "", True, False),
        ("--help", "", True, False),
        ("get --help", "", True, False),
        ("", "", True, False),
        ("node doctor", "", True, False),
        ("node doctor worker-7", "", True, True),
        ("node doctor worker-7", "10.0.0.1:2379", False, True),
        ("node doctor --gateway ens3=10.6.0.1", "", True, False),
        ("node clean", "", True, False),
        ("node clean worker-7", "", True, True),
        ("node clean worker-7 --host-table 600", "10.0.0.1:2379", False, True),
        ("trace-path shop/web-0 10.6.0.1", "", True, True),
        ("trace-path shop/web-0 10.6.0.1", "", False, False),
        ("trace-path shop/web-0 10.6.0.1 --context north", "", False, True),
        ("trace-path shop/web-0 10.6.0.1 --netns /run/netns/x", "", True, False),
    ],
)
def test_is_remote_selects_commands_that_run_through_kubectl(
    line: str, etcd: str, as_plugin: bool, remote: bool
) -> None:
    """If ``as_plugin``, the user types ``kubectl orb`` instead of ``orbctl``."""
    variables = {"ORBWEAVER_ETCD_ENDPOINTS": etcd} if etcd else {}

    assert is_remote(line.split(), variables, as_plugin=as_plugin) is remote


def test_the_kubectl_command_names_cluster_pod_and_user() -> None:
    call = remote_call("get", "pools", "-A", "--context", "north", "--kubeconfig=k.yaml")

    assert call.command == [
        *("kubectl", "--context=north", "--kubeconfig=k.yaml"),
        *("exec", "-n", "net", "controller-a", "-c", "controller", "--"),
        *("env", "ORBWEAVER_WHO=jo@desk", "orbctl", "get", "--all-namespaces", "pools"),
    ]
    assert call.stdin == b""


def test_local_files_are_sent_on_standard_input(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"name: {name}")
    files = f"-f {tmp_path}/a.yaml --filename={tmp_path}/b.yaml".split()
    call = remote_call("apply", *files, "--dry-run")

    assert call.command[-3:] == ["apply", "--filename=-", "--dry-run"]
    assert "-i" in call.command
    assert call.stdin == b"name: a.yaml\n---\nname: b.yaml"


@pytest.mark.parametrize("option", ["-f{}", "-f={}", "-f {}", "--filename {}", "--filename={}"])
def test_a_local_file_is_sent_for_every_spelling_of_its_option(tmp_path: Path, option: str) -> None:
    (tmp_path / "pool.yaml").write_text("name: blue")
    typed = option.format(tmp_path / "pool.yaml").split()

    call = remote_call("apply", *typed)

    assert call.command[-2:] == ["apply", "--filename=-"]
    assert call.stdin == b"name: blue"


def test_the_value_of_an_option_is_not_parsed_as_an_option() -> None:
    call = remote_call("release", "web-0", "--reason", "--context", "--kubeconfig", "k.yaml")

    assert call.command[:2] == ["kubectl", "--kubeconfig=k.yaml"]
    assert call.command[-3:] == ["release", "--reason=--context", "web-0"]


def test_standard_input_is_passed_on_if_the_file_is_a_dash() -> None:
    call = remote_call("apply", "-f", "-")

    assert "-i" in call.command
    assert call.stdin is None


@pytest.mark.parametrize(
    ("order", "sent"), [("-f - -f {}", b"typed\n---\nfile"), ("-f {} -f=-", b"file\n---\ntyped")]
)
def test_standard_input_and_files_are_sent_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, sent: bytes
) -> None:
    (tmp_path / "pool.yaml").write_text("file")
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed"))

    call = remote_call("apply", *order.format(tmp_path / "pool.yaml").split())

    assert call.command[-2:] == ["apply", "--filename=-"]
    assert call.stdin == sent


def test_kubectl_exec_allocates_a_terminal_if_orbctl_has_a_terminal() -> None:
    assert "-it" in remote_call("release", "10.6.0.9", is_terminal=True).command


def test_a_missing_file_is_an_error_before_kubectl_is_called(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml"):
        remote_call("apply", "-f", str(tmp_path / "none.yaml"))


def test_a_ready_controller_is_preferred() -> None:
    calls, kubectl = scripted_kubectl(
        pod("new", ready=False), pod("good"), pod("old", phase="Failed")
    )
    call = prepare(["status"], "jo@desk", is_terminal=False, find=kubectl)

    assert "good" in call.command
    assert "-A" in calls[0]


def test_the_option_system_namespace_limits_the_search_for_controllers() -> None:
    calls, kubectl = scripted_kubectl(pod("good"))
    prepare(["status", "--system-namespace", "net"], "jo@desk", is_terminal=False, find=kubectl)

    assert calls[0][:5] == ["kubectl", "get", "pods", "-n", "net"]


def test_a_cluster_without_a_controller_is_an_error() -> None:
    _, kubectl = scripted_kubectl()
    with pytest.raises(NotFound, match="no controller runs"):
        prepare(["status"], "jo@desk", is_terminal=False, find=kubectl)


class FakeKubectl:
    """The Pod ``web-0`` is on worker-7; the Pod ``pending`` is not scheduled."""

    def __init__(self, *agents: dict[str, object], nodes: str = "worker-7") -> None:
        self.calls: list[str] = []
        self._agents = agents
        self._nodes = nodes.split()

    def find(self, command: Sequence[str]) -> str:
        self.calls.append(" ".join(command))
        match list(command[1:3]):
            case ["get", "pods"]:
                return json.dumps({"items": self._agents})
            case ["get", "node"]:
                return f"node/{command[3]}" if command[3] in self._nodes else ""
            case ["get", "pod"] if command[5] == "web-0":
                return json.dumps({"spec": {"nodeName": "worker-7"}})
            case ["get", "pod"] if command[5] == "pending":
                return json.dumps({"spec": {}})
        return ""

    def remote_call(self, line: str) -> Remote:
        return prepare(line.split(), "jo@desk", is_terminal=False, find=self.find)


def test_a_node_is_checked_in_the_pod_of_its_agent() -> None:
    kubectl = FakeKubectl(pod("agent-x"))

    call = kubectl.remote_call("node doctor --gateway ens3=10.6.0.1 worker-7 -o json")

    assert "--field-selector=spec.nodeName=worker-7" in kubectl.calls[0]
    assert "app.kubernetes.io/component=agent" in kubectl.calls[0]
    assert call.command == [
        *("kubectl", "exec", "-n", "net", "agent-x", "-c", "agent", "--"),
        *("env", "ORBWEAVER_WHO=jo@desk", "orbctl", "node", "doctor"),
        *("--gateway=ens3=10.6.0.1", "--output=json"),
    ]
    assert call.node == "worker-7"


@pytest.mark.parametrize(
    "line",
    ["trace-path shop/web-0 10.6.0.1", "trace-path web-0 -n shop 10.6.0.1"],
)
def test_trace_path_runs_in_the_agent_of_the_pods_node(line: str) -> None:
    kubectl = FakeKubectl(pod("agent-x"))

    call = kubectl.remote_call(line)

    assert kubectl.calls[0] == "kubectl get pod -n shop web-0 --ignore-not-found -o json"
    assert "--field-selector=spec.nodeName=worker-7" in kubectl.calls[1]
    assert call.command[call.command.index("orbctl") + 1] == "trace-path"
    assert "10.6.0.1" in call.command


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("node doctor worker-7", "no agent runs on node worker-7"),
        ("node doctor worker-8", "there is no node worker-8"),
        ("trace-path shop/web-0 10.6.0.1", "no agent runs on node worker-7"),
        ("trace-path shop/web-9 10.6.0.1", "there is no Pod shop/web-9"),
        ("trace-path shop/pending 10.6.0.1", "Pod shop/pending is not scheduled yet"),
    ],
)
def test_the_error_names_what_is_missing(line: str, reason: str) -> None:
    with pytest.raises(NotFound, match=reason):
        FakeKubectl(pod("agent-x", phase="Pending")).remote_call(line)


@pytest.mark.parametrize(
    ("script_in_pod", "reason"),
    [
        ("exit 127", "the agent on node worker-7 is too old: it has no orbctl"),
        (
            '[ "$2" = --version ] && echo orbctl 0.0.1 && exit; exit 2',
            "the agent on node worker-7 has orbctl 0.0.1, which may lack this command or option",
        ),
        (f'[ "$2" = --version ] && echo orbctl {core.__version__} && exit; exit 2', ""),
    ],
)
def test_the_error_says_if_the_agent_may_be_too_old(
    tmp_path: Path, script_in_pod: str, reason: str
) -> None:
    """A script replaces kubectl; ``kubectl exec`` runs ``script_in_pod``."""
    script = tmp_path / "kubectl"
    pods = json.dumps({"items": [pod("agent-x")]})
    script.write_text(
        f"#!/bin/sh\nif [ $1 = get ]; then echo '{pods}'; exit; fi\n"
        f'while [ "$1" != orbctl ]; do shift; done\n{script_in_pod}\n'
    )
    script.chmod(0o755)
    orb = Path(sys.executable).with_name("kubectl-orb")

    completed = subprocess.run(
        [orb, "node", "doctor", "worker-7"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode != 0
    assert reason in completed.stderr
    assert bool(completed.stderr) is bool(reason)


def test_an_option_without_a_value_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert not is_remote(["status", "--context"], {}, as_plugin=False)

    assert run(["status", "--context"], ProcessContext()) == Exit.USAGE
    assert "--context" in capsys.readouterr().err


@pytest.mark.etcd
def test_orbctl_returns_the_remote_output_and_records_the_user(tmp_path: Path) -> None:
    """A script replaces kubectl; ``kubectl exec`` runs the command on this machine."""
    bin_directory = Path(sys.executable).parent
    pods = json.dumps({"items": [pod("controller-a")]})
    script = tmp_path / "kubectl"
    script.write_text(
        f"#!/bin/sh\nif [ $2 = get ]; then echo '{pods}'; exit; fi\n"
        'while [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    script.chmod(0o755)
    manifest = tmp_path / "pool.yaml"
    manifest.write_text(
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
        "metadata: {name: blue}\nspec: {subnet: 10.6.0.0/16, ips: [10.6.0.1-10.6.0.9]}\n"
    )
    with EtcdCluster(tmp_path / "etcd") as etcd:
        environment = {
            "PATH": f"{tmp_path}:{bin_directory}:{os.environ['PATH']}",
            "ORBWEAVER_ETCD_ENDPOINTS": ",".join(etcd.endpoints),
            "HOME": str(tmp_path),
        }

        def orb(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [str(bin_directory / "orbctl"), "--context=north", *arguments]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )

        applied = orb("apply", "-f", str(manifest))
        assert applied.returncode == 0, applied.stderr
        assert orb("get", "pools", "-o", "name").stdout == f"{POOL_KIND}/blue\n"
        assert orb("describe", "pool", "green").returncode == Exit.NOT_FOUND
        output = orb("history", "blue").stdout
        assert f"orbctl/{getpass.getuser()}@{socket.gethostname()}" in output
