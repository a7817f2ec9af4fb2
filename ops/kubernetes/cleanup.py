"""Cleans up after an uninstallation, so that webhooks and finalizers do not block deletions.

Webhook configurations are deleted first, because their server has stopped. Finalizers are removed
only when the Lease has no holder, because a running controller could add them again. Custom
resources stay. The last step waits until a DaemonSet of the chart has cleaned each node. The
cleanup is idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from core.errors import ApiConflict, ApiNotFound
from core.kubernetes.api_client import Api, Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.leader_lease import LEASES_PATH, is_held
from ops.kubernetes.translated_kinds import FINALIZER

KINDS: Final = ("spiderippools", "spidersubnets", "spiderendpoints", "spidercoordinators")
"""The kinds whose objects get Orbweaver's finalizer."""

ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
POLL_S: Final = 1.0

PASS_PAUSE_S: Final = 2.0

PASSES_MAX: Final = 20
"""The cleanup also ends after a pass that finds no finalizer."""

NODES_WAIT_S: Final = 60.0
"""Limited, because a node that is down must not block an uninstallation."""

DAEMON_SETS: Final = "/apis/apps/v1/namespaces/{}/daemonsets/{}"

_log: Final = logging.getLogger(__name__)


class InstallationNames(NamedTuple):
    """The names of the objects of an installation; "" for a missing object."""

    namespace: str
    lease: str
    mutating: str = ""
    validating: str = ""
    secret: str = ""
    cleaning_daemon_set: str = ""


async def clean(api: Api, names: InstallationNames) -> int:
    """Clean up; return the number of removed finalizers. Raises ApiError."""
    for kind, name in (("mutating", names.mutating), ("validating", names.validating)):
        if name:
            await _delete(api, f"{ADMISSION}/{kind}webhookconfigurations/{name}")
    lease = f"{LEASES_PATH.format(names.namespace)}/{names.lease}"
    await _until_no_leader(api, lease)
    removed_count = 0
    for _ in range(PASSES_MAX):
        removals = [await _remove_finalizers(api, kind) for kind in KINDS]
        if not any(removals):
            break
        removed_count += sum(map(sum, removals))
        await asyncio.sleep(PASS_PAUSE_S)
    await _delete(api, lease)
    if names.secret:
        await _delete(api, f"/api/v1/namespaces/{names.namespace}/secrets/{names.secret}")
    if names.cleaning_daemon_set:
        await _until_nodes_are_clean(
            api, DAEMON_SETS.format(names.namespace, names.cleaning_daemon_set)
        )
    return removed_count


async def _until_nodes_are_clean(api: Api, path: str) -> None:
    try:
        async with asyncio.timeout(NODES_WAIT_S):
            while True:
                if _is_ready_everywhere(await api.get(path)):
                    return
                await asyncio.sleep(POLL_S)
    except ApiNotFound:
        return  # the installation has no DaemonSet that cleans nodes
    except TimeoutError:
        _log.warning("not every node was cleaned; run `orbctl node clean` on the remaining nodes")


def _is_ready_everywhere(daemon_set: Object) -> bool:
    status = daemon_set.get("status", {})
    if status.get("observedGeneration") != daemon_set["metadata"]["generation"]:
        return False
    return int(status.get("numberReady", 0)) >= int(status.get("desiredNumberScheduled", 0))


async def _until_no_leader(api: Api, path: str) -> None:
    while True:
        try:
            lease = await api.get(path)
        except ApiNotFound:
            return
        if not is_held(lease, api.server_clock_s):
            return
        _log.info("waiting for %s to stop", lease["spec"]["holderIdentity"])
        await asyncio.sleep(POLL_S)


async def _remove_finalizers(api: Api, kind: str) -> list[bool]:
    """Try to remove every finalizer of Orbweaver; return for each whether it was removed."""
    try:
        listed = await api.list(f"/apis/{API_VERSION}/{kind}")
    except ApiNotFound:
        return []  # the CRD was deleted with all objects
    return [
        await _remove_finalizer(api, kind, body["metadata"])
        for body in listed.items
        if FINALIZER in (body["metadata"].get("finalizers") or ())
    ]


async def _remove_finalizer(api: Api, kind: str, metadata: Object) -> bool:
    """Remove Orbweaver's finalizer; return False if the object was changed meanwhile."""
    namespace_path = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    others = [text for text in metadata["finalizers"] if text != FINALIZER]
    body = {"metadata": {"finalizers": others, "resourceVersion": metadata["resourceVersion"]}}
    try:
        await api.merge(f"/apis/{API_VERSION}{namespace_path}/{kind}/{metadata['name']}", body)
    except (ApiConflict, ApiNotFound):
        _log.info("%s %s was changed meanwhile", kind, metadata["name"])
        return False
    return True


async def _delete(api: Api, path: str) -> None:
    try:
        await api.delete(path)
    except ApiNotFound:
        return
    _log.info("deleted %s", path)
