"""After an uninstall: nothing of ours may keep anything from being deleted.

A DaemonSet of the chart cleans the nodes meanwhile; this waits until it has been on each of them.

Webhook configurations go first, since nobody answers any more. Then everybody who could put a
finalizer back must have stopped: the Lease says so. Then our finalizers are taken from what is
left. Objects stay: who wants to delete them can. What is missing is fine, and so is a second run.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple

from core.errors import ApiConflict, ApiNotFound
from core.kubernetes.api import Api, Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.leadership import LEASES, is_held
from ops.kubernetes.resources import FINALIZER

KINDS: Final = ("spiderippools", "spidersubnets", "spiderendpoints", "spidercoordinators")
"""Those that get finalizers."""

ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
LEASE_POLL_S: Final = 1.0
CALM_S: Final = 2.0
"""After the last pass that found something, before the next one looks whether it stays away."""

PASSES_MAX: Final = 20
NODES_WAIT_S: Final = 60.0
"""A node that does not answer must not keep an uninstallation from its end."""

DAEMON_SETS: Final = "/apis/apps/v1/namespaces/{}/daemonsets/{}"

_log: Final = logging.getLogger(__name__)


class InstallationNames(NamedTuple):
    """What the installation was called; "" for what it did not have."""

    namespace: str
    lease: str
    mutating: str = ""
    validating: str = ""
    secret: str = ""
    nodes: str = ""
    """The DaemonSet that cleans the nodes."""


async def clean(api: Api, leftovers: InstallationNames) -> int:
    """Clean up; how many objects were freed of a finalizer. Raises ApiError."""
    for kind, name in (("mutating", leftovers.mutating), ("validating", leftovers.validating)):
        if name:
            await _delete(api, f"{ADMISSION}/{kind}webhookconfigurations/{name}")
    lease = f"{LEASES.format(leftovers.namespace)}/{leftovers.lease}"
    await _until_nobody_leads(api, lease)
    freed = 0
    for _ in range(PASSES_MAX):
        found = sum([await _free_all(api, kind) for kind in KINDS])
        if not found:
            break
        freed += found
        await asyncio.sleep(CALM_S)
    await _delete(api, lease)
    if leftovers.secret:
        await _delete(api, f"/api/v1/namespaces/{leftovers.namespace}/secrets/{leftovers.secret}")
    if leftovers.nodes:
        await _until_nodes_are_clean(api, DAEMON_SETS.format(leftovers.namespace, leftovers.nodes))
    return freed


async def _until_nodes_are_clean(api: Api, path: str) -> None:
    try:
        async with asyncio.timeout(NODES_WAIT_S):
            while True:
                if _is_ready_everywhere(await api.get(path)):
                    return
                await asyncio.sleep(LEASE_POLL_S)
    except ApiNotFound:
        return  # nothing cleans nodes, so nothing is waited for
    except TimeoutError:
        _log.warning("not every node was cleaned; run `orbctl node clean` on the others")


def _is_ready_everywhere(daemon_set: Object) -> bool:
    status = daemon_set.get("status", {})
    if status.get("observedGeneration") != daemon_set["metadata"]["generation"]:
        return False
    return int(status.get("numberReady", 0)) >= int(status.get("desiredNumberScheduled", 0))


async def _until_nobody_leads(api: Api, path: str) -> None:
    while True:
        try:
            lease = await api.get(path)
        except ApiNotFound:
            return
        if not is_held(lease, api.clock_s):
            return
        _log.info("waiting for %s to stop", lease["spec"]["holderIdentity"])
        await asyncio.sleep(LEASE_POLL_S)


async def _free_all(api: Api, kind: str) -> int:
    try:
        listed = await api.list(f"/apis/{API_VERSION}/{kind}")
    except ApiNotFound:
        return 0  # the definitions are gone, and all objects with them
    return sum([await _free(api, kind, one) for one in listed.items])


async def _free(api: Api, kind: str, one: Object) -> bool:
    """Whether it had our finalizer."""
    metadata = one["metadata"]
    finalizers = metadata.get("finalizers") or []
    if FINALIZER not in finalizers:
        return False
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    left = [text for text in finalizers if text != FINALIZER]
    body = {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}}
    try:
        await api.merge(f"/apis/{API_VERSION}{within}/{kind}/{metadata['name']}", body)
    except (ApiConflict, ApiNotFound):
        _log.info("%s %s was changed meanwhile", kind, metadata["name"])
    return True


async def _delete(api: Api, path: str) -> None:
    try:
        await api.delete(path)
    except ApiNotFound:
        return
    _log.info("deleted %s", path)
