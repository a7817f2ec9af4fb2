"""``orbctl migrate check``, ``values`` and ``compare`` on recorded objects of a real Spiderpool.

``recorded/spiderpool.json`` is from Spiderpool 1.2.1 with six Pods and with Multus in the agents.
It lacks UIDs, certificates and the manifest of the Helm release.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from core.domain.claims.takeover import plan_takeover
from core.manifests.spiderpool import read_spiderpool
from ops.cli.exit_codes import Exit
from tests.kubernetes.objects import Object, path_of
from tests.kubernetes.resources.test_import_spiderpool import orbctl
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import pod as node_pod
from tests.support.node_harness import pool as node_pool

RECORDINGS: Final = Path(__file__).with_name("recorded")
RECORDED: Final = json.loads((RECORDINGS / "spiderpool.json").read_text())
NAMESPACE: Final = "spiderpool"
PATH_BY_KIND: Final = {
    "DaemonSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets",
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
    "MutatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    ),
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    ),
    "Secret": f"/api/v1/namespaces/{NAMESPACE}/secrets",
}
AGENT_PATH: Final = f"{PATH_BY_KIND['DaemonSet']}/spiderpool-agent"
MULTUS: Final = "multus-cni"
NEVER_MATCHES: Final = [{"name": "never", "expression": "false"}]
"""Match conditions that disable the recorded webhooks, because their Service is missing."""


def create_with_status(server: ApiServer, path: str, body: Object) -> None:
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    if "status" in body:
        part = {"status": body["status"]}
        server.request(
            "PATCH", f"{path}/{body['metadata']['name']}/status", part, content=MERGE_PATCH
        )


def helm_secret(release: Object) -> Object:
    packed = b64encode(b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.spiderpool.v1", "labels": {"owner": "helm"}},
        "data": {"release": packed},
    }


def objects_of_built_in_kinds() -> list[Object]:
    """The recorded objects that are not custom resources."""
    webhooks = [
        configuration
        | {
            "webhooks": [
                webhook | {"matchConditions": NEVER_MATCHES}
                for webhook in configuration["webhooks"]
            ]
        }
        for configuration in RECORDED["webhooks"]
    ]
    return [*RECORDED["workloads"], *webhooks, helm_secret(RECORDED["release"])]


def create_recorded_objects(server: ApiServer) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    server.request("POST", "/api/v1/namespaces", namespace)
    for item in RECORDED["objects"]:
        create_with_status(
            server, path_of(item["kind"], "", item["metadata"].get("namespace", "")), item
        )
    for item in objects_of_built_in_kinds():
        create_with_status(server, PATH_BY_KIND[item["kind"]], item)


def delete_objects_of_built_in_kinds(server: ApiServer) -> None:
    """Delete the objects that the fixture ``server`` does not delete."""
    for item in objects_of_built_in_kinds():
        server.request("DELETE", f"{PATH_BY_KIND[item['kind']]}/{item['metadata']['name']}")


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """The recorded cluster; no process of Orbweaver runs."""
    await asyncio.to_thread(create_recorded_objects, server)
    try:
        async with TranslatorHarness(server, translates=False) as harness:
            yield harness
    finally:
        await asyncio.to_thread(delete_objects_of_built_in_kinds, server)


async def migrate(cluster: TranslatorHarness, command: str, *arguments: str) -> tuple[int, str]:
    """Run ``orbctl migrate``; return its exit code and output."""
    access = ("--kubeconfig", str(cluster.server.kubeconfig))
    done = await orbctl(cluster, "migrate", command, *access, *arguments)
    return done.returncode, done.stdout + done.stderr


async def test_migrate_check_names_multus_in_the_agent_until_multus_is_removed(
    cluster: TranslatorHarness,
) -> None:
    exit_with_multus, output = await migrate(cluster, "check")
    agent = cluster.server.request("GET", AGENT_PATH).body
    pod = agent["spec"]["template"]["spec"]
    containers = pod["containers"]
    pod["containers"] = [container for container in containers if container["name"] != MULTUS]
    cluster.server.request("PUT", AGENT_PATH, agent)
    exit_without_multus, _ = await migrate(cluster, "check")

    assert (exit_with_multus, exit_without_multus) == (Exit.REFUSED, Exit.OK)
    assert "Multus in DaemonSet spiderpool/spiderpool-agent" in output
    assert "taken over: addresses 6, endpoints 6, pools 1, subnets 0, reservations 1" in output


async def test_migrate_values_keeps_the_settings_about_addresses(
    cluster: TranslatorHarness,
) -> None:
    exit_code, values = await migrate(cluster, "values")

    assert exit_code == Exit.OK
    for line in ("enableIPv6: false", "enableStatefulSet: true", "install: true"):
        assert line in values
    assert "defaultCniCRName: spiderpool/lan" in values


async def test_migrate_compare_finds_differences_only_before_the_import(
    cluster: TranslatorHarness,
) -> None:
    objects: Any = (("recorded", item) for item in RECORDED["objects"])
    recorded_addresses = plan_takeover(read_spiderpool(objects).cluster).addresses
    access = ("--kubeconfig", str(cluster.server.kubeconfig))

    exit_before, _ = await migrate(cluster, "compare")
    done = await orbctl(cluster, "import", "spiderpool", *access, "--yes")
    exit_after, output = await migrate(cluster, "compare")

    assert done.returncode == 0, done.stderr
    assert (exit_before, exit_after) == (Exit.DIFFERENT, Exit.OK)
    assert output.strip() == f"equal: {recorded_addresses} addresses"
    claims = (await cluster.node.read_ledger()).claims
    assert len(claims) == recorded_addresses == 6


async def test_migrate_compare_says_how_many_differences_it_leaves_out(
    cluster: TranslatorHarness,
) -> None:
    await cluster.node.apply(node_pool("extra", "10.99.0.1-10.99.0.50", subnet="10.99.0.0/24"))
    for number in range(50):
        await cluster.node.add(node_pod(f"extra-{number}"))

    _, output = await migrate(cluster, "compare")
    _, wide = await migrate(cluster, "compare", "-o", "wide")

    # The recorded objects have 6 other addresses, and a table has at most 50 rows.
    assert output.startswith("56 addresses differ\n")
    assert output.endswith("\n... 6 more (-o wide shows them)\n")
    assert len(wide.splitlines()) == len(("heading", "columns")) + 56


async def test_migrate_values_fails_in_a_cluster_without_spiderpool(server: ApiServer) -> None:
    async with TranslatorHarness(server, translates=False) as cluster:
        exit_code, output = await migrate(cluster, "values")

    assert exit_code == Exit.USAGE
    assert "no Helm release of the chart spiderpool" in output
