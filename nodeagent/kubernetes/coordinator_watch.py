"""Watches the SpiderCoordinator, which has the cluster-wide settings of the coordinator plugin.

The leading controller writes the status of the SpiderCoordinator. Fields that the SpiderCoordinator
does not set come from conf.yml. ADDs use the cached object (I8 of
docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from core.errors import BadInput, NotReady
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Reflector
from core.manifests.kinds.coordinators import CoordinatorReport
from core.manifests.kinds.fields import API_VERSION
from nodeagent.coordinator.settings import (
    CoordinatorDefaults,
    UnparsedSettings,
    merge_settings,
    read_settings,
    validate_settings,
)

COORDINATORS: Final = f"/apis/{API_VERSION}/spidercoordinators"
SYNCED: Final = "Synced"
LISTED_S_MAX: Final = 2.0
"""Limit of the wait for the first list after the agent's start."""

_log: Final = logging.getLogger(__name__)


class CachedCoordinator(NamedTuple):
    """The cached SpiderCoordinator. ``fault``: why it cannot be used, or ""."""

    settings: UnparsedSettings = UnparsedSettings()
    fault: str = ""


class KubernetesCoordinator(CoordinatorDefaults):
    """The watch of the SpiderCoordinator ``name``. ``configured``: the settings of conf.yml."""

    def __init__(self, api: Api, name: str, configured: UnparsedSettings) -> None:
        path = f"{COORDINATORS}?fieldSelector=metadata.name%3D{name}"
        self.coordinators = Reflector(api, path, cached_coordinator)
        self._name = name
        self._configured = configured

    async def run(self) -> None:
        await self.coordinators.run()

    async def load(self) -> None:
        """Wait for the first list, at most ``LISTED_S_MAX``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTED_S_MAX):
                await self.coordinators.listed.wait()

    def current_settings(self) -> UnparsedSettings:
        """The current settings. Raises NotReady unless a valid object exists and is Synced."""
        coordinator = self.coordinators.objects.get(("", self._name))
        if coordinator is None:
            raise self._missing_coordinator()
        if coordinator.fault:
            # "no ready" is Spiderpool's text: users may match it.
            raise NotReady(
                f"spidercoordinator: {self._name} no ready: {coordinator.fault}",
                subject=self._name,
                remedy=f"correct the object: kubectl describe spidercoordinator {self._name}",
            )
        return merge_settings(coordinator.settings, self._configured)

    def _missing_coordinator(self) -> NotReady:
        if self.coordinators.listed.is_set():
            why = f"there is no SpiderCoordinator {self._name}"
            remedy = "create it, or set SPIDERPOOL_COORDINATOR_ENABLED to false to use conf.yml"
        else:
            why = f"SpiderCoordinators cannot be listed: {self.coordinators.fault or 'no answer'}"
            remedy = "check the API server, and that the agent may list spidercoordinators"
        message = f"coordinator config not found: {why}"
        return NotReady(message, subject=self._name, remedy=remedy)


def cached_coordinator(coordinator: Object) -> CachedCoordinator:
    """The settings, or why they cannot be used."""
    try:
        report = msgspec.convert(coordinator.get("status") or {"phase": ""}, CoordinatorReport)
        if report.phase != SYNCED:
            return CachedCoordinator(fault=report.reason or f"its phase is {report.phase!r}")
        spec = msgspec.convert(coordinator.get("spec") or {}, dict[str, Any])
        networks = {
            "overlayPodCIDR": report.overlay_pod_cidr or [],
            "serviceCIDR": report.service_cidr or [],
        }
        settings = read_settings(spec | networks)
        validate_settings(settings)
    except (msgspec.ValidationError, BadInput) as error:
        _log.warning("cannot use SpiderCoordinator %s: %s", coordinator["metadata"]["name"], error)
        return CachedCoordinator(fault=str(error))
    return CachedCoordinator(settings)
