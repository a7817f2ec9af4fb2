"""Writes metadata and spec of custom resources for the translator, and creates Events.

``pool_status_writer`` writes the status with another field manager, because each server-side apply
removes the manager's other fields.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet, Command
from core.domain.validation.normalization import CIDR_LABEL, SUBNET_CIDR_LABEL, cidr_label
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.conditions import (
    DesiredCondition,
    event,
)
from ops.kubernetes.translated_kinds import FINALIZER, TranslatedKind

FIELD_MANAGER: Final = "orbweaver-translator"
EVENTS: Final = "/apis/events.k8s.io/v1/namespaces/{}/events"

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The clock of conditions and Events."""
    return dt.datetime.now(dt.UTC)


class ObjectWriter:
    """Writes to the API server; every method raises ApiError."""

    def __init__(self, api: Api, reporter: str, *, now: Clock = utc_now) -> None:
        self._api = api
        self._reporter = reporter
        self._now = now

    async def add_metadata(self, kind: TranslatedKind, body: Object, command: Command) -> Object:
        """Add finalizer, IP version and CIDR label; return the object.

        Call this before the object is written to the log: the finalizer delays a deletion. See
        docs/reference/admission.md, "SpiderIPPool".
        """
        metadata, spec = _required_fields(kind, command)
        if _has(body["metadata"], metadata) and _has(body.get("spec", {}), spec):
            return body
        body = identity(kind, body) | {"spec": spec}
        body["metadata"] |= metadata
        return await self._api.apply(kind.path(body["metadata"]["name"]), body, FIELD_MANAGER)

    async def complete(self, kind: TranslatedKind, stored: Object, missing: Object) -> Object:
        """Add missing fields; return the object. Raises ApiConflict if ``stored`` is outdated.

        A merge patch lets other clients change the fields later without a conflict.
        """
        metadata = {"resourceVersion": stored["metadata"]["resourceVersion"]}
        body = missing | {"metadata": metadata | missing.get("metadata", {})}
        return await self._api.merge(kind.path(stored["metadata"]["name"]), body)

    async def release(self, kind: TranslatedKind, stored: Object) -> None:
        """Remove Orbweaver's finalizer."""
        metadata = stored["metadata"]
        finalizers = metadata.get("finalizers") or []
        if FINALIZER not in finalizers:
            return
        others = [text for text in finalizers if text != FINALIZER]
        version = metadata["resourceVersion"]
        body = {"metadata": {"finalizers": others, "resourceVersion": version}}
        await self._api.merge(kind.path(metadata["name"]), body)

    async def delete(self, kind: TranslatedKind, stored: Object) -> None:
        """Delete ``stored``; keep a newer object with the same name."""
        metadata = stored["metadata"]
        await self._api.delete(kind.path(metadata["name"]), metadata["uid"])

    async def create_event(self, regarding: Object, condition: DesiredCondition) -> None:
        """Create an Event with the reason and message of a condition."""
        now = self._now()
        name = f"{regarding['metadata']['name'][:200]}.{int(now.timestamp() * 1e9):x}"
        event_time = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = event(regarding, condition, name, self._reporter, event_time)
        await self._api.create(EVENTS.format(body["metadata"]["namespace"]), body)


def identity(kind: TranslatedKind, stored: Object) -> Object:
    """The identity of an object. The UID prevents apply from recreating a deleted object."""
    metadata = {"name": stored["metadata"]["name"], "uid": stored["metadata"]["uid"]}
    return {"apiVersion": stored["apiVersion"], "kind": kind.title, "metadata": metadata}


def _required_fields(kind: TranslatedKind, command: Command) -> tuple[Object, Object]:
    """The metadata and spec fields that the translator owns."""
    match command:
        case ApplyPool(value) | ApplySubnet(value):
            label = CIDR_LABEL if kind is TranslatedKind.POOL else SUBNET_CIDR_LABEL
            labels = {label: cidr_label(value.subnet)}
            return {"finalizers": [FINALIZER], "labels": labels}, {"ipVersion": value.family}
        case ApplyReservation(value):
            return {}, {"ipVersion": value.family}
        case _:
            raise AssertionError(f"not a command for a custom resource: {command!r}")


def _has(current: Object, desired: Object) -> bool:
    """Whether ``current`` has every field, list item and label of ``desired``."""
    for name, desired_value in desired.items():
        value = current.get(name)
        match desired_value:
            case dict():
                if not _has(value or {}, desired_value):
                    return False
            case list():
                if not set(desired_value) <= set(value or ()):
                    return False
            case _:
                if value != desired_value:
                    return False
    return True
