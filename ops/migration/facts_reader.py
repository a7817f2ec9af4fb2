"""Reads the facts for a migration from the API server. Writes nothing.

Needs the right to list each kind, also Secrets (Helm's releases). A kind that the API server does
not serve has no objects.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from core.domain.claims.takeover import ForeignCluster, plan_takeover
from core.errors import BadInput
from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from core.manifests.kinds.fields import API_VERSION
from ops.migration.facts import (
    DeployedWorkload,
    Facts,
    HelmRelease,
    Network,
    TakeoverCounts,
    Webhook,
)

CHART: Final = "spiderpool"
RELEASES: Final = "/api/v1/secrets?labelSelector=owner%3Dhelm"
RELEASE_TYPE: Final = "helm.sh/release.v1"
RELEASE_BYTES_MAX: Final = 32 * 1024 * 1024
"""The limit for an unpacked release."""

GROUP: Final = API_VERSION.partition("/")[0]
NETWORKS: Final = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"
NETWORK_CONFIGS: Final = f"/apis/{API_VERSION}/spidermultusconfigs"
SRIOV_POLICIES: Final = "/apis/sriovnetwork.openshift.io/v1/sriovnetworknodepolicies"
WORKLOADS: Final = ("daemonsets", "deployments")
WEBHOOKS: Final = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def read_facts(cluster: ForeignCluster, kubeconfig: str, context: str = "") -> Facts:
    """Read the facts. ``cluster``: Spiderpool's objects. Raises ApiError, BadInput."""
    api = Api(await open_connection(kubeconfig, context))
    try:
        workloads = [
            _workload(body, kind)
            for plural, kind in zip(WORKLOADS, ("DaemonSet", "Deployment"), strict=True)
            for body in await api.list_if_served(f"/apis/apps/v1/{plural}")
        ]
        return Facts(
            server=_version(await api.get("/version")),
            release=newest_release(await api.list_if_served(RELEASES)),
            workloads=tuple(workloads),
            networks=tuple(map(_network, await api.list_if_served(NETWORKS))),
            webhooks=tuple(await _webhooks(api)),
            definitions=tuple(
                body["metadata"]["name"]
                for body in await api.list_if_served(DEFINITIONS)
                if body["spec"]["group"] == GROUP
            ),
            data=_data(cluster),
            network_configs=len(await api.list_if_served(NETWORK_CONFIGS)),
            sriov_policies=len(await api.list_if_served(SRIOV_POLICIES)),
        )
    finally:
        await api.close()


def newest_release(secrets: Iterable[Object]) -> HelmRelease | None:
    """The newest revision of the release of the chart ``spiderpool``; None if none is installed.

    Raises BadInput if a Secret cannot be read and no other Secret has a release of the chart.
    """
    newest: dict[tuple[str, str], HelmRelease] = {}
    unreadable: BadInput | None = None
    for secret in secrets:
        release = None
        try:
            release = _release(secret) if secret.get("type") == RELEASE_TYPE else None
        except BadInput as error:
            unreadable = error
        if release is not None:
            name = release.namespace, release.name
            earlier = newest.get(name, release)
            newest[name] = max(earlier, release, key=_revision)
    if unreadable is not None and not newest:
        raise unreadable
    installed = [release for release in newest.values() if release.status != "uninstalled"]
    return max(installed, key=_revision, default=None)


def _revision(release: HelmRelease) -> int:
    return release.revision


def _version(answer: Object) -> tuple[int, int]:
    """``{"major": "1", "minor": "34+"}`` -> (1, 34)."""
    major, minor = (re.match(r"\d*", str(answer.get(part, ""))) for part in ("major", "minor"))
    return int(major[0] or 0) if major else 0, int(minor[0] or 0) if minor else 0


def _release(secret: Object) -> HelmRelease | None:
    """The release in a Secret of Helm; None for another chart. Raises BadInput."""
    name = secret["metadata"]["name"]
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)  # gzip
        body = msgspec.json.decode(unpacker.decompress(packed, RELEASE_BYTES_MAX))
        chart = body["chart"]
        if chart["metadata"]["name"] != CHART:
            return None
        return HelmRelease(
            body["name"],
            body["namespace"],
            revision=body["version"],
            status=body["info"]["status"],
            chart_version=chart["metadata"]["version"],
            values=body.get("config") or {},
            defaults=chart.get("values") or {},
        )
    except (KeyError, TypeError, ValueError, zlib.error, msgspec.DecodeError) as error:
        raise BadInput(
            f"Secret {name} is not a release that Helm 3 wrote: {error}",
            subject=name,
            remedy="compare it with `helm list -A`, and delete it if it belongs to no release",
        ) from None


def _workload(body: Object, kind: str) -> DeployedWorkload:
    pod, status = body["spec"]["template"]["spec"], body.get("status", {})
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    is_daemon_set = kind == "DaemonSet"
    desired = (
        status.get("desiredNumberScheduled") if is_daemon_set else body["spec"].get("replicas")
    )
    return DeployedWorkload(
        kind,
        body["metadata"]["namespace"],
        body["metadata"]["name"],
        containers={container["name"]: container["image"] for container in containers},
        service_account=pod.get("serviceAccountName", ""),
        desired=desired or 0,
        ready=status.get("numberReady" if is_daemon_set else "readyReplicas") or 0,
        stop_hooks=tuple(
            container["name"]
            for container in containers
            if (container.get("lifecycle") or {}).get("preStop")
        ),
    )


def _network(body: Object) -> Network:
    metadata = body["metadata"]
    try:
        config: Any = msgspec.json.decode(body.get("spec", {}).get("config") or "{}")
    except msgspec.DecodeError:
        config = {}
    entries = (config.get("plugins") or [config]) if isinstance(config, dict) else []
    plugins = [plugin for plugin in entries if isinstance(plugin, dict)]
    types = tuple(str(plugin["type"]) for plugin in plugins if plugin.get("type"))
    ipams = [plugin["ipam"] for plugin in plugins if isinstance(plugin.get("ipam"), dict)]
    ipam = str(ipams[0].get("type", "")) if ipams else ""
    return Network(metadata["namespace"], metadata["name"], types, ipam)


async def _webhooks(api: Api) -> list[Webhook]:
    kinds = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    configurations = []
    for plural, kind in zip(WEBHOOKS, kinds, strict=True):
        for body in await api.list_if_served(f"/apis/admissionregistration.k8s.io/v1/{plural}"):
            webhooks = [webhook for webhook in body.get("webhooks", ()) if _is_for_group(webhook)]
            if webhooks:
                service = webhooks[0].get("clientConfig", {}).get("service") or {}
                address = f"{service.get('namespace', '')}/{service.get('name', '')}"
                configurations.append(Webhook(kind, body["metadata"]["name"], address))
    return configurations


def _is_for_group(webhook: Object) -> bool:
    return any(GROUP in rule.get("apiGroups", ()) for rule in webhook.get("rules", ()))


def _data(cluster: ForeignCluster) -> TakeoverCounts:
    plan = plan_takeover(cluster)
    return TakeoverCounts(
        pools=len(cluster.pools),
        subnets=len(cluster.subnets),
        reservations=len(cluster.reservations),
        endpoints=len(plan.endpoints),
        addresses=plan.addresses,
        findings=plan.findings,
    )
