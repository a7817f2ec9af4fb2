"""Applications of a scripted cluster, and their Pods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from core.domain.autopools.applications import BUILT_IN, Application, is_built_in
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.model import Owner, Scale
from core.domain.request_facts import PodFacts

PREFIX = "ipam.spidernet.io/"
THIRD_PARTY = "apps.kruise.io/v1alpha1"


class Applications:
    """An ``ApplicationsSource``. As in a controller, third-party kinds are not watched."""

    def __init__(self) -> None:
        self.existing: dict[ApplicationKey, Application] = {}
        self.deleted: set[ApplicationKey] = set()
        self._has_changed = asyncio.Event()

    def put(self, application: Application) -> None:
        self.existing[application.key] = application
        self.deleted.discard(application.key)
        self._has_changed.set()

    def remove(self, key: ApplicationKey) -> None:
        del self.existing[key]
        self.deleted.add(key)
        self._has_changed.set()

    async def listed(self) -> None:
        """Return without waiting: ``known`` is always complete."""

    def known(self) -> Mapping[ApplicationKey, Application]:
        return {key: application for key, application in self.existing.items() if is_built_in(key)}

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        if key in self.deleted:
            return MissingOwner(certain=True, why=f"{key.kind} {key.name} was deleted")
        application = self.existing.get(key)
        if application is None or not is_built_in(key):
            return MissingOwner(certain=False, why=f"{key.kind} {key.name} is unknown")
        return application

    async def changed(self) -> None:
        await self._has_changed.wait()
        self._has_changed.clear()


def key_of(path: str) -> ApplicationKey:
    """Parse ``web`` (a Deployment) or ``KIND/NAME``."""
    kind, _, name = path.rpartition("/")
    kind = kind or "Deployment"
    return ApplicationKey(BUILT_IN.get(kind, THIRD_PARTY), kind, "shop", name)


def annotations_of(subnet: str, number: str, reclaim: str, *, subnet6: str = "") -> dict[str, str]:
    """The annotations of a Pod template.

    ``subnet``: ``net`` for eth0, or ``eth0:net,net1:other`` for several NICs.
    """
    annotations: dict[str, str] = {}
    if ":" in subnet:
        nics = [part.split(":") for part in subnet.split(",")]
        value: object = [{"interface": nic, "ipv4": [name]} for nic, name in nics]
        annotations["subnets"] = json.dumps(value)
    elif subnet or subnet6:
        families = {"ipv4": [subnet] if subnet else [], "ipv6": [subnet6] if subnet6 else []}
        annotations["subnet"] = json.dumps(families)
    annotations |= {"ippool-ip-number": number, "ippool-reclaim": reclaim}
    return {PREFIX + name: text for name, text in annotations.items() if text}


def scale_of(kind: str, size: int) -> Scale:
    match kind:
        case "DaemonSet":
            return Scale(desired=size)
        case "Job" | "CronJob":
            return Scale(completions=size)
        case _:
            return Scale(replicas=size)


def pod_of(name: str, application: Application | None, annotations: dict[str, str]) -> PodFacts:
    owner = None
    if application is not None:
        key = application.key
        owner = Owner(key.kind, key.name, key.namespace, key.api_version, application.uid)
        annotations = application.annotations | annotations
    return PodFacts("shop", name, f"uid-{name}", annotations=annotations, owner=owner)
