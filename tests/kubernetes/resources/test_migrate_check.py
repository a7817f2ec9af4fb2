"""``orbctl migrate`` against an API server with the objects of a real Spiderpool, recorded.

``recorded/spiderpool.json`` was read from a cluster of Spiderpool 1.2.1 with Multus in its agents
(tests/installation), six Pods and no names of ours; UIDs of its objects, certificates and the
manifest of its release are left out.
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
from tests.kubernetes.objects import Object, path_of
from tests.kubernetes.resources.test_import_spiderpool import orbctl
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support.kubernetes import MERGE, ApiServer

PLACE: Final = Path(__file__).with_name("recorded")
RECORDED: Final = json.loads((PLACE / "spiderpool.json").read_text())
SPACE: Final = "spiderpool"
PLACES: Final = {
    "DaemonSet": f"/apis/apps/v1/namespaces/{SPACE}/daemonsets",
    "Deployment": f"/apis/apps/v1/namespaces/{SPACE}/deployments",
    "MutatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    ),
    "ValidatingWebhookConfiguration": (
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    ),
    "Secret": f"/api/v1/namespaces/{SPACE}/secrets",
}
AGENT: Final = f"{PLACES['DaemonSet']}/spiderpool-agent"
MULTUS: Final = "multus-cni"
NEVER: Final = [{"name": "never", "expression": "false"}]
"""Of webhooks whose Service is not there: other tests use this server too."""


def create(server: ApiServer, path: str, one: Object) -> None:
    """Create it with its status."""
    answer = server.request("POST", path, one)
    assert answer.status == 201, answer.message
    if "status" in one:
        part = {"status": one["status"]}
        server.request("PATCH", f"{path}/{one['metadata']['name']}/status", part, content=MERGE)


def helm_secret(release: Object) -> Object:
    """The release as Helm stores it."""
    packed = b64encode(b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {"name": "sh.helm.release.v1.spiderpool.v1", "labels": {"owner": "helm"}},
        "data": {"release": packed},
    }


def others() -> list[Object]:
    """What is not of our kinds."""
    webhooks = [
        one | {"webhooks": [each | {"matchConditions": NEVER} for each in one["webhooks"]]}
        for one in RECORDED["webhooks"]
    ]
    return [*RECORDED["workloads"], *webhooks, helm_secret(RECORDED["release"])]


def fill(server: ApiServer) -> None:
    """Everything that was recorded."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
    server.request("POST", "/api/v1/namespaces", space)
    for one in RECORDED["objects"]:
        create(server, path_of(one["kind"], "", one["metadata"].get("namespace", "")), one)
    for one in others():
        create(server, PLACES[one["kind"]], one)


def clear(server: ApiServer) -> None:
    """Take away what the fixture ``server`` does not."""
    for one in others():
        server.request("DELETE", f"{PLACES[one['kind']]}/{one['metadata']['name']}")


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """The recorded cluster; nothing of ours runs."""
    await asyncio.to_thread(fill, server)
    try:
        async with TranslatorHarness(server, translates=False) as one:
            yield one
    finally:
        await asyncio.to_thread(clear, server)


async def migrate(cluster: TranslatorHarness, command: str, *arguments: str) -> tuple[int, str]:
    access = ("--kubeconfig", str(cluster.server.kubeconfig))
    done = await orbctl(cluster, "migrate", command, *access, *arguments)
    return done.returncode, done.stdout + done.stderr


async def test_what_must_move_first_is_named_until_it_has_moved(
    cluster: TranslatorHarness,
) -> None:
    first, said = await migrate(cluster, "check")
    agent = cluster.server.request("GET", AGENT).body
    pod = agent["spec"]["template"]["spec"]
    pod["containers"] = [one for one in pod["containers"] if one["name"] != MULTUS]
    cluster.server.request("PUT", AGENT, agent)
    then, _ = await migrate(cluster, "check")

    assert (first, then) == (3, 0)
    assert "Multus in DaemonSet spiderpool/spiderpool-agent" in said
    assert "taken over: addresses 6, endpoints 6, pools 1, subnets 0, reservations 1" in said


async def test_values_keep_what_decides_about_addresses(cluster: TranslatorHarness) -> None:
    code, text = await migrate(cluster, "values")

    assert code == 0
    for line in ("enableIPv6: false", "enableStatefulSet: true", "install: true"):
        assert line in text
    assert "defaultCniCRName: spiderpool/lan" in text


async def test_imported_addresses_are_equal_in_both_directions(
    cluster: TranslatorHarness,
) -> None:
    objects: Any = (("recorded", one) for one in RECORDED["objects"])
    held = plan_takeover(read_spiderpool(objects).cluster).addresses
    access = ("--kubeconfig", str(cluster.server.kubeconfig))

    before, _ = await migrate(cluster, "compare")
    done = await orbctl(cluster, "import", "spiderpool", *access, "--yes")
    after, said = await migrate(cluster, "compare")

    assert done.returncode == 0, done.stderr
    assert (before, after) == (6, 0)
    assert said.strip() == f"equal: {held} addresses"
    claims = (await cluster.node.read_ledger()).claims
    assert len(claims) == held == 6


async def test_a_cluster_without_spiderpool_is_told_from_one_with_it(server: ApiServer) -> None:
    async with TranslatorHarness(server, translates=False) as bare:
        code, said = await migrate(bare, "values")

    assert code == 2
    assert "no Helm release of the chart spiderpool" in said
