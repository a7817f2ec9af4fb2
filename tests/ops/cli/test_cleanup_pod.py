"""``orbctl node clean NODE`` runs a Pod that is made from the agents' DaemonSet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from core.errors import BadInput, NotFound, OrbweaverError, Refused
from ops.cli.cleanup_pod import NodeCleaner, cleanup_pod
from ops.cli.remote import run
from tests.packaging.project import PROJECT_ROOT
from tests.support.yaml_reader import read_all_yaml

RENDERED_CHART = PROJECT_ROOT / "tests/chart/golden/default.yaml"


@pytest.fixture(scope="module")
def daemon_set() -> dict[str, Any]:
    objects = read_all_yaml(RENDERED_CHART.read_text("utf-8"))
    daemon_sets = [item for item in objects if item and item["kind"] == "DaemonSet"]
    (agents,) = [item for item in daemon_sets if item["metadata"]["name"] == "orbweaver-agent"]
    return dict(agents) | {"metadata": agents["metadata"] | {"uid": "1-2-3"}}


class ScriptedKubectl:
    """A fake kubectl that records the verb of each call."""

    def __init__(self, daemon_set: dict[str, Any], **status: Any) -> None:
        self.daemon_sets, self.agents = [daemon_set], list[dict[str, Any]]()
        self.pod = {"metadata": {"name": "made", "namespace": "net"}, "status": status}
        self.verbs: list[str] = []

    def __call__(self, words: Sequence[str], stdin: str) -> str:
        self.verbs.append(words[0])
        answers = {
            "get node": "node/worker-7\n" if words[2] == "worker-7" else "",
            "get pods": json.dumps({"items": self.agents}),
            "get daemonsets": json.dumps({"items": self.daemon_sets}),
        }
        if words[0] == "logs":
            return "everything removed\n"
        return answers.get(" ".join(words[:2]), json.dumps(self.pod))


def test_the_cleanup_pod_has_the_image_and_the_mounts_of_an_agent(
    daemon_set: dict[str, Any],
) -> None:
    pod = cleanup_pod(daemon_set, "worker-7", ["--host-table=600"])

    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    agent = daemon_set["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == agent["image"]
    assert container["command"] == ["orbctl", "node", "clean", "--host-table=600"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {
        "/opt/cni/bin",
        "/var/run/spidernet",
        "/tmp/spiderpool/config-map",
    }
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    secret_volumes = [volume for volume in spec["volumes"] if "secret" in volume]
    assert not secret_volumes, "the Pod needs no credentials of etcd"
    capabilities = container["securityContext"]["capabilities"]["add"]
    assert set(capabilities) == {"NET_ADMIN", "NET_RAW", "SYS_ADMIN", "DAC_OVERRIDE"}
    assert spec["hostNetwork"]


def test_the_cleanup_pod_runs_once_on_the_named_node(
    daemon_set: dict[str, Any],
) -> None:
    pod = cleanup_pod(daemon_set, "worker-7")

    spec, metadata = pod["spec"], pod["metadata"]
    assert (spec["nodeName"], spec["restartPolicy"]) == ("worker-7", "Never")
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["tolerations"] == [{"operator": "Exists"}]
    (owner,) = metadata["ownerReferences"]
    assert (owner["name"], owner["uid"]) == ("orbweaver-agent", "1-2-3")
    assert not owner.get("controller"), "the DaemonSet would delete a Pod that it controls"
    labels_of_agents = daemon_set["spec"]["selector"]["matchLabels"]
    assert not labels_of_agents.items() <= metadata["labels"].items()


def test_clean_returns_the_pods_log_and_deletes_the_pod(daemon_set: dict[str, Any]) -> None:
    kubectl = ScriptedKubectl(daemon_set, phase="Succeeded")

    assert NodeCleaner(kubectl).clean("worker-7") == "everything removed\n"
    assert kubectl.verbs[-2:] == ["logs", "delete"]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, "DeadlineExceeded\neverything removed"),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]},
            "exit code 2",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}],
            },
            "did not end within 0 s: ErrImagePull",
        ),
        ({}, "it is unknown"),
    ],
)
def test_clean_deletes_a_failed_pod_and_reports_the_reason(
    daemon_set: dict[str, Any], status: dict[str, Any], text: str
) -> None:
    kubectl = ScriptedKubectl(daemon_set, **status)

    with pytest.raises(OrbweaverError, match=text):
        NodeCleaner(kubectl, wait_s=0).clean("worker-7")
    assert kubectl.verbs[-1] == "delete"


def test_clean_reports_a_failed_deletion_only_if_the_pod_succeeded(
    daemon_set: dict[str, Any],
) -> None:
    kubectl = ScriptedKubectl(daemon_set)
    kubectl.pod["status"] = {"phase": "Pending"}

    def kubectl_without_delete(words: Sequence[str], stdin: str) -> str:
        if words[0] == "delete":
            raise OrbweaverError("the API server does not answer")
        return kubectl(words, stdin)

    with pytest.raises(OrbweaverError, match="did not end within 0 s"):
        NodeCleaner(kubectl_without_delete, wait_s=0).clean("worker-7")
    # After a success, the failed deletion is the error.
    kubectl.pod["status"] = {"phase": "Succeeded"}
    with pytest.raises(OrbweaverError, match="does not answer"):
        NodeCleaner(kubectl_without_delete).clean("worker-7")


def test_a_node_is_cleaned_only_after_its_agent_has_ended(daemon_set: dict[str, Any]) -> None:
    kubectl = ScriptedKubectl(daemon_set)
    metadata = {"namespace": "net", "name": "orbweaver-agent-x"}
    kubectl.agents = [{"metadata": metadata, "status": {"phase": "Pending"}}]

    with pytest.raises(Refused, match=r"label node worker-7 orbweaver\.io/agent=disabled"):
        NodeCleaner(kubectl).clean("worker-7")
    assert "create" not in kubectl.verbs

    kubectl.agents[0]["status"] = {"phase": "Failed"}
    kubectl.pod["status"] = {"phase": "Succeeded"}
    NodeCleaner(kubectl).clean("worker-7")


def test_clean_requires_the_node_and_exactly_one_daemon_set(
    daemon_set: dict[str, Any],
) -> None:
    kubectl = ScriptedKubectl(daemon_set)
    with pytest.raises(NotFound, match="there is no node elsewhere"):
        NodeCleaner(kubectl).clean("elsewhere")
    kubectl.daemon_sets = []
    with pytest.raises(NotFound, match="no DaemonSet of agents") as caught:
        NodeCleaner(kubectl).clean("worker-7")
    assert "helm uninstall" in caught.value.remedy
    kubectl.daemon_sets = [daemon_set] * 2
    with pytest.raises(BadInput, match="several namespaces"):
        NodeCleaner(kubectl).clean("worker-7")


def test_the_option_bin_dir_is_refused_together_with_a_node() -> None:
    with pytest.raises(BadInput, match="does not accept --bin-dir"):
        run(["node", "clean", "worker-7", "--bin-dir", "/usr/libexec/cni"], "jo@desk")
