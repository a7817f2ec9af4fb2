"""Cleans a node with a temporary Pod, for ``orbctl node clean NODE``.

The Pod has the image, mounts and capabilities of an agent. Refuses a node with a running agent,
because cleaning removes the agent's sockets.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from core.errors import BadInput, NotFound, OrbweaverError, Refusal, Refused

COMPONENT: Final = "app.kubernetes.io/component"
PART_OF: Final = "app.kubernetes.io/part-of"
SELECTOR: Final = f"{PART_OF}=orbweaver,{COMPONENT}=agent"
"""Selects the agents' DaemonSet and its Pods."""

POD_NAME: Final = "orbweaver-node-clean-"
"""The API server appends random characters."""

POD_COMPONENT: Final = "node-clean"
"""With the label ``agent``, the DaemonSet would adopt the Pod."""

EXCLUSION_LABEL: Final = "orbweaver.io/agent"
"""If the label is ``disabled``, the chart's default affinity keeps agents off the node."""

CLEAN_DEADLINE_S: Final = 60

WAIT_S_MAX: Final = CLEAN_DEADLINE_S + 60.0
"""orbctl stops waiting then: without a working kubelet, the Pod never ends."""

POLL_S: Final = 1.0

ENDED: Final = ("Succeeded", "Failed")

OPTIONS: Final = ("--host-table", "--socket")
"""Options that the Pod accepts. It has fixed mounts, so it accepts no directories."""

CONTAINERS: Final = ("agent", "install")
"""The Pod gets the mounts and capabilities of these containers."""

Kubectl = Callable[[Sequence[str], str], str]
"""Arguments and standard input of kubectl -> its output. Raises OrbweaverError."""


class NodeCleaner:
    """Cleans nodes of one cluster. ``namespace``: the namespace of the agents; "": any."""

    def __init__(self, kubectl: Kubectl, namespace: str = "", wait_s: float = WAIT_S_MAX) -> None:
        self._kubectl = kubectl
        self._namespace_options = ["-n", namespace] if namespace else ["-A"]
        self._wait_s = wait_s

    def clean(self, node: str, options: Sequence[str] = ()) -> str:
        """Clean a node; return the output.

        Raises NotFound, Refused, BadInput, and OrbweaverError with the output of a failed run.
        """
        if not self._run("get", "node", node, "--ignore-not-found", "-o", "name").strip():
            remedy = "`kubectl get nodes` lists the nodes"
            raise NotFound(f"there is no node {node}", subject=node, remedy=remedy)
        self._check_no_agent(node)
        pod = cleanup_pod(self._daemon_set(), node, options)
        namespace = str(pod["metadata"]["namespace"])
        text = self._run("create", "-f", "-", "-o", "json", stdin=json.dumps(pod))
        name = str(json.loads(text)["metadata"]["name"])
        try:
            ended_pod = self._wait_until_ended(namespace, name)
            log = self._run("logs", "-n", namespace, name)
        except BaseException:
            with suppress(OrbweaverError):  # the first error is the one to report
                self._delete(namespace, name)
            raise
        self._delete(namespace, name)
        if ended_pod["status"]["phase"] == "Failed":
            raise OrbweaverError(
                f"node {node} was not cleaned: {_failure_text(ended_pod)}\n{log}".strip(),
                remedy="correct the cause, then run the command again",
            )
        return log

    def _check_no_agent(self, node: str) -> None:
        field_selector = f"--field-selector=spec.nodeName={node}"
        pods = self._items("get", "pods", "-A", "-l", SELECTOR, field_selector)
        for pod in pods:
            if pod.get("status", {}).get("phase") not in ENDED:
                raise _agent_runs(node, pod)

    def _daemon_set(self) -> dict[str, Any]:
        daemon_sets = self._items("get", "daemonsets", *self._namespace_options, "-l", SELECTOR)
        if len(daemon_sets) > 1:
            names = ", ".join(daemon_set["metadata"]["namespace"] for daemon_set in daemon_sets)
            remedy = "choose one namespace with --system-namespace"
            raise BadInput(f"agents are installed in several namespaces: {names}", remedy=remedy)
        if not daemon_sets:
            remedy = (
                "check --system-namespace; after `helm uninstall`, run `orbctl node clean` on the"
                " node itself, as root"
            )
            text = (
                "there is no DaemonSet of agents; the cleanup Pod needs the image and mounts of"
                " agents"
            )
            raise NotFound(text, subject=SELECTOR, remedy=remedy)
        return daemon_sets[0]

    def _wait_until_ended(self, namespace: str, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._wait_s
        while True:
            pod: dict[str, Any] = json.loads(
                self._run("get", "pod", "-n", namespace, name, "-o", "json")
            )
            if pod.get("status", {}).get("phase") in ENDED:
                return pod
            if time.monotonic() >= deadline:
                why = _failure_text(pod)
                text = f"Pod {namespace}/{name} did not end within {self._wait_s:g} s: {why}"
                remedy = "check that the kubelet of the node runs and can pull the agents' image"
                raise OrbweaverError(text, remedy=remedy)
            time.sleep(POLL_S)

    def _delete(self, namespace: str, name: str) -> None:
        self._run("delete", "pod", "-n", namespace, name, "--ignore-not-found", "--wait=false")

    def _items(self, *arguments: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self._run(*arguments, "-o", "json"))["items"]
        return items

    def _run(self, *arguments: str, stdin: str = "") -> str:
        return self._kubectl(arguments, stdin)


def cleanup_pod(
    daemon_set: Mapping[str, Any], node: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """The manifest of the temporary Pod, from the agents' DaemonSet. Pure."""
    metadata, template = daemon_set["metadata"], daemon_set["spec"]["template"]["spec"]
    candidates = [*template["containers"], *template.get("initContainers", ())]
    containers = [
        container for name in CONTAINERS for container in candidates if container["name"] == name
    ]
    volumes = [
        volume for volume in template["volumes"] if "hostPath" in volume or "configMap" in volume
    ]
    volume_names = {volume["name"] for volume in volumes}
    mounts = {
        mount["mountPath"]: mount
        for container in containers
        for mount in container.get("volumeMounts", ())
        if mount["name"] in volume_names
    }
    agent = containers[0]
    copied_keys = ("image", "imagePullPolicy", "resources")
    container = {key: agent[key] for key in copied_keys if key in agent} | {
        "name": POD_COMPONENT,
        "command": ["orbctl", "node", "clean", *options],
        "securityContext": _merged_security_context(containers),
        "volumeMounts": list(mounts.values()),
    }
    shared_keys = ("hostNetwork", "imagePullSecrets", "priorityClassName", "securityContext")
    spec = {key: template[key] for key in shared_keys if key in template} | {
        "nodeName": node,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": CLEAN_DEADLINE_S,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": volumes,
    }
    owner = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": POD_NAME,
            "namespace": metadata["namespace"],
            "labels": {PART_OF: "orbweaver", COMPONENT: POD_COMPONENT},
            # If orbctl dies before it deletes the Pod, the Pod is deleted with the DaemonSet.
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _merged_security_context(containers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    contexts = [container.get("securityContext", {}) for container in containers]
    added: Iterable[str] = dict.fromkeys(
        name
        for security_context in contexts
        for name in security_context.get("capabilities", {}).get("add", ())
    )
    capabilities = dict(contexts[0].get("capabilities", {})) | {"add": list(added)}
    return {**contexts[0], "capabilities": capabilities}


def _agent_runs(node: str, pod: Mapping[str, Any]) -> Refused:
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    message = f"the agent of this node, Pod {name}, still runs and would lose its sockets"
    remedy = (
        f"exclude the node first: kubectl label node {node} {EXCLUSION_LABEL}=disabled; or"
        " uninstall the chart, which cleans every node"
    )
    refusal = Refusal(
        kind="Forbidden",
        rule="agent-runs",
        subject=f"Node/{node}",
        field="",
        message=message,
        remedy=remedy,
    )
    return Refused((refusal,))


def _failure_text(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    texts = [status.get("reason", ""), status.get("message", "")]
    for container in status.get("containerStatuses", ()):
        for state in container.get("state", {}).values():
            code = f"exit code {state['exitCode']}" if "exitCode" in state else ""
            texts += [state.get("reason", ""), state.get("message", ""), code]
    return ": ".join(text for text in texts if text) or f"it is {status.get('phase', 'unknown')}"
