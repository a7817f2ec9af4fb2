"""What the translator writes into custom resources besides their status, and Events.

Server-side apply takes back what its field manager no longer says: finalizer, labels and the IP
version have a manager of their own, apart from that of the status (``status_writer``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet, Command
from core.domain.validation.normalization import CIDR_LABEL, SUBNET_CIDR_LABEL, cidr_label
from core.kubernetes.api import Api, Object
from ops.kubernetes.conditions import (
    DesiredCondition,
    event,
)
from ops.kubernetes.resources import FINALIZER, TranslatedKind

MANAGER: Final = "orbweaver-translator"
EVENTS: Final = "/apis/events.k8s.io/v1/namespaces/{}/events"

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The clock of conditions and Events."""
    return dt.datetime.now(dt.UTC)


class ObjectWriter:
    """Writes; every method raises ApiError."""

    def __init__(self, api: Api, reporter: str, *, now: Clock = utc_now) -> None:
        self.writes = 0
        self._api = api
        self._reporter = reporter
        self._now = now

    async def adorn(self, kind: TranslatedKind, one: Object, command: Command) -> Object:
        """The object with what it has to have: finalizer, IP version, CIDR label.

        See docs/reference/admission.md, "SpiderIPPool".

        The finalizer is there before the log knows the object, so no deletion is ever missed.
        """
        metadata, spec = _adornment(kind, command)
        if _has(one["metadata"], metadata) and _has(one.get("spec", {}), spec):
            return one
        body = identity(kind, one) | {"spec": spec}
        body["metadata"] |= metadata
        self.writes += 1
        return await self._api.apply(kind.path(one["metadata"]["name"]), body, MANAGER)

    async def complete(self, kind: TranslatedKind, one: Object, lacking: Object) -> Object:
        """The object with what it lacks, if nobody has changed it meanwhile.

        Merged and not applied: from now on these fields are whoever's writes them next.
        """
        metadata = {"resourceVersion": one["metadata"]["resourceVersion"]}
        body = lacking | {"metadata": metadata | lacking.get("metadata", {})}
        self.writes += 1
        return await self._api.merge(kind.path(one["metadata"]["name"]), body)

    async def release(self, kind: TranslatedKind, one: Object) -> None:
        """Take our finalizer away, whoever put it there."""
        metadata = one["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        left = [text for text in finalizers if text != FINALIZER]
        version = metadata["resourceVersion"]
        body = {"metadata": {"finalizers": left, "resourceVersion": version}}
        self.writes += 1
        await self._api.merge(kind.path(metadata["name"]), body)

    async def delete(self, kind: TranslatedKind, one: Object) -> None:
        """Begin to delete exactly this object."""
        metadata = one["metadata"]
        self.writes += 1
        await self._api.delete(kind.path(metadata["name"]), metadata["uid"])

    async def tell(self, one: Object, observation: DesiredCondition) -> None:
        """An Event about an object."""
        now = self._now()
        name = f"{one['metadata']['name'][:200]}.{int(now.timestamp() * 1e9):x}"
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = event(one, observation, name, self._reporter, stamp)
        self.writes += 1
        await self._api.create(EVENTS.format(body["metadata"]["namespace"]), body)


def identity(kind: TranslatedKind, one: Object) -> Object:
    """With the UID, so that an object that was deleted meanwhile is not created again."""
    metadata = {"name": one["metadata"]["name"], "uid": one["metadata"]["uid"]}
    return {"apiVersion": one["apiVersion"], "kind": kind.title, "metadata": metadata}


def _adornment(kind: TranslatedKind, command: Command) -> tuple[Object, Object]:
    """The metadata and spec fields that are ours."""
    match command:
        case ApplyPool(value) | ApplySubnet(value):
            label = CIDR_LABEL if kind is TranslatedKind.POOL else SUBNET_CIDR_LABEL
            labels = {label: cidr_label(value.subnet)}
            return {"finalizers": [FINALIZER], "labels": labels}, {"ipVersion": value.family}
        case ApplyReservation(value):
            return {}, {"ipVersion": value.family}
        case _:
            raise AssertionError(f"not of a custom resource: {command!r}")


def _has(whole: Object, part: Object) -> bool:
    """Whether every field, list item and label of ``part`` is there."""
    for name, wanted in part.items():
        found = whole.get(name)
        match wanted:
            case dict():
                if not _has(found or {}, wanted):
                    return False
            case list():
                if not set(wanted) <= set(found or ()):
                    return False
            case _:
                if found != wanted:
                    return False
    return True
