"""A scripted cluster: applications as an API server would list them, and their Pods.

An application that a script removed is certainly deleted; one that no script created is unknown.
Third-party applications are not followed until they are removed, as their kinds are unknown.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from core.domain.autopools.applications import BUILT_IN, Application, is_built_in
from core.domain.autopools.names import ApplicationKey
from core.domain.facts import PodFacts
from core.domain.fixed.owners import MissingOwner
from core.domain.model import Owner, Scale

PREFIX = "ipam.spidernet.io/"
THIRD_PARTY = "apps.kruise.io/v1alpha1"


class Applications:
    """The cluster; an ``ApplicationsSource``."""

    def __init__(self) -> None:
        self.there: dict[ApplicationKey, Application] = {}
        self.gone: set[ApplicationKey] = set()
        self._moved = asyncio.Event()

    def put(self, application: Application) -> None:
        """Create or change an application."""
        self.there[application.key] = application
        self.gone.discard(application.key)
        self._moved.set()

    def remove(self, key: ApplicationKey) -> None:
        """Delete an application, with its delete event."""
        del self.there[key]
        self.gone.add(key)
        self._moved.set()

    async def listed(self) -> None:
        """Return at once: a script is complete from the start."""

    def known(self) -> Mapping[ApplicationKey, Application]:
        return {key: one for key, one in self.there.items() if is_built_in(key)}

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        if key in self.gone:
            return MissingOwner(certain=True, why=f"{key.kind} {key.name} was deleted")
        found = self.there.get(key)
        if found is None or not is_built_in(key):
            return MissingOwner(certain=False, why=f"nobody knows {key.kind} {key.name}")
        return found

    async def changed(self) -> None:
        await self._moved.wait()
        self._moved.clear()


def key_of(path: str) -> ApplicationKey:
    """Parse ``web`` (a Deployment) or ``StatefulSet/db``; other kinds are third-party."""
    kind, _, name = path.rpartition("/")
    kind = kind or "Deployment"
    return ApplicationKey(BUILT_IN.get(kind, THIRD_PARTY), kind, "shop", name)


def annotations_of(subnet: str, number: str, reclaim: str, *, subnet6: str = "") -> dict[str, str]:
    """``net`` for eth0, or ``eth0:net,net1:other`` for several NICs."""
    said: dict[str, str] = {}
    if ":" in subnet:
        items = [one.split(":") for one in subnet.split(",")]
        value: object = [{"interface": nic, "ipv4": [name]} for nic, name in items]
        said["subnets"] = json.dumps(value)
    elif subnet or subnet6:
        families = {"ipv4": [subnet] if subnet else [], "ipv6": [subnet6] if subnet6 else []}
        said["subnet"] = json.dumps(families)
    said |= {"ippool-ip-number": number, "ippool-reclaim": reclaim}
    return {PREFIX + name: text for name, text in said.items() if text}


def scale_of(kind: str, size: int) -> Scale:
    """A size in the fields of the kind."""
    match kind:
        case "DaemonSet":
            return Scale(desired=size)
        case "Job" | "CronJob":
            return Scale(completions=size)
        case _:
            return Scale(size)


def pod_of(name: str, application: Application | None, said: dict[str, str]) -> PodFacts:
    """A Pod with or without an application."""
    owner = None
    if application is not None:
        key = application.key
        owner = Owner(key.kind, key.name, key.namespace, key.api_version, application.uid)
        said = application.annotations | said
    return PodFacts("shop", name, f"uid-{name}", annotations=said, owner=owner)
