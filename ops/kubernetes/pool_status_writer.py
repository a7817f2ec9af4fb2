"""The only writer of the status of SpiderIPPools, SpiderSubnets and SpiderReservedIPs.

The translator sets the conditions about the spec; the reporter sets the rest. One field manager
applies both parts. A new leader keeps each part until it has computed that part again. The
resourceVersion in a write makes the API server refuse late writes of a former leader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Informer, ObjectKey, OwnWrites
from ops.kubernetes.conditions import TRANSLATOR_CONDITIONS, DesiredCondition, conditions, is_new
from ops.kubernetes.custom_resource_writer import Clock, ObjectWriter, identity, utc_now
from ops.kubernetes.status_reports import REPORTED_CONDITIONS, StatusReport
from ops.kubernetes.translated_kinds import TranslatedKind, resource_version

STATUS_MANAGER: Final = "orbweaver-reporter"

STATUS_FIELDS: Final = {
    TranslatedKind.POOL: ("allocatedIPs", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.SUBNET: ("controlledIPPools", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.RESERVATION: (),
}
"""The fields of each status, without its conditions."""


class _TranslatorConditions(NamedTuple):
    """The conditions that the translator set for one version of an object."""

    body: Object
    conditions: Sequence[DesiredCondition]


class StatusWriter:
    """The writer of statuses. ``pending``: objects with new conditions of the translator."""

    def __init__(
        self,
        api: Api,
        objects: ObjectWriter,
        informers: Mapping[TranslatedKind, Informer],
        *,
        now: Clock = utc_now,
    ) -> None:
        self.writes = 0
        self.pending: dict[TranslatedKind, set[str]] = {kind: set() for kind in TranslatedKind}
        self._api = api
        self._objects = objects
        self._informers = informers
        self._now = now
        self._on_conditions_set: Callable[[], None] = lambda: None
        self._translator_conditions: dict[TranslatedKind, dict[str, _TranslatorConditions]] = {
            kind: {} for kind in TranslatedKind
        }
        self._refusals_without_event: dict[TranslatedKind, dict[str, list[DesiredCondition]]] = {
            kind: {} for kind in TranslatedKind
        }
        self._own_writes = {kind: OwnWrites(informers[kind]) for kind in TranslatedKind}

    def set_conditions(
        self, kind: TranslatedKind, stored: Object, conditions: Sequence[DesiredCondition]
    ) -> None:
        """Store the translator's conditions of an object; the next ``write`` writes them."""
        name = stored["metadata"]["name"]
        self._translator_conditions[kind][name] = _TranslatorConditions(stored, conditions)
        self.pending[kind].add(name)
        self._on_conditions_set()

    def on_conditions_set(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each ``set_conditions``."""
        self._on_conditions_set = callback

    def changed_by_others(self, kind: TranslatedKind, keys: set[ObjectKey]) -> set[str]:
        """The names in ``keys``, except objects whose last change is by this writer."""
        for _, name in keys:
            if ("", name) not in self._informers[kind].objects:
                self._translator_conditions[kind].pop(name, None)
                self._refusals_without_event[kind].pop(name, None)
        return {name for _, name in self._own_writes[kind].changed_by_others(keys)}

    async def write(self, kind: TranslatedKind, name: str, report: StatusReport | None) -> None:
        """Write the status of an object, and an Event for each new refusal. Raises ApiError.

        If ``report`` is None, the fields and conditions of the reporter stay.
        """
        stored = self._informers[kind].objects.get(("", name))
        if stored is None:
            return
        translated = self._translator_conditions[kind].get(name)
        generations_behind = (
            0 if translated is None else _generations_behind(translated.body, stored)
        )
        if generations_behind < 0:
            return  # the watched object is older than the one that the translator applied
        if generations_behind > 0:
            translated = None
        before = _owned_status(kind, stored)
        desired = self._desired_status(kind, stored, report, translated)
        if desired != before:
            await self._write(kind, stored, desired, translated)
        await self._create_events(kind, stored, desired)

    async def _write(
        self,
        kind: TranslatedKind,
        stored: Object,
        desired: Object,
        translated: _TranslatorConditions | None,
    ) -> None:
        name = stored["metadata"]["name"]
        body = identity(kind, stored) | {"status": desired}
        body["metadata"] |= resource_version(stored)
        path = f"{kind.path(name)}/status"
        self.writes += 1
        applied = await self._api.apply(path, body, STATUS_MANAGER)
        refusals = [
            condition
            for condition in (translated.conditions if translated else ())
            if condition.status == "False" and is_new(stored, condition)
        ]
        if refusals:
            self._refusals_without_event[kind][name] = refusals
        removal = _removal_patch(kind, applied, desired)
        if removal:
            self.writes += 1
            applied = await self._api.merge(
                path, {"metadata": resource_version(applied), "status": removal}
            )
        self._own_writes[kind].note(applied)

    async def _create_events(self, kind: TranslatedKind, stored: Object, status: Object) -> None:
        """Create the Events of written refusals. After an error, the next ``write`` retries."""
        name = stored["metadata"]["name"]
        for condition in self._refusals_without_event[kind].get(name, ()):
            if not is_new({"status": status}, condition):  # the refusal is still current
                await self._objects.create_event(stored, condition)
        self._refusals_without_event[kind].pop(name, None)

    def _desired_status(
        self,
        kind: TranslatedKind,
        stored: Object,
        report: StatusReport | None,
        translated: _TranslatorConditions | None,
    ) -> Object:
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = _owned_status(kind, stored)
        by_type = {condition["type"]: condition for condition in status.pop("conditions", [])}
        if report is not None:
            status = dict(report.fields)
            by_type = {
                name: condition
                for name, condition in by_type.items()
                if name not in REPORTED_CONDITIONS or name in report.unknown  # unknown: kept as is
            }
            by_type |= {
                condition["type"]: condition
                for condition in conditions(stored, report.conditions, now)
            }
        if translated is not None:
            by_type = {
                name: condition
                for name, condition in by_type.items()
                if name not in TRANSLATOR_CONDITIONS
            }
            written = conditions(stored, translated.conditions, now)
            by_type |= {condition["type"]: condition for condition in written}
        if by_type:
            status["conditions"] = [by_type[name] for name in sorted(by_type)]
        return status


def _generations_behind(earlier: Object, stored: Object) -> int:
    """How many generations ``earlier`` is behind ``stored``; 1 if their UIDs differ."""
    earlier_metadata, metadata = earlier["metadata"], stored["metadata"]
    if earlier_metadata["uid"] != metadata["uid"]:
        return 1
    return int(metadata.get("generation", 0)) - int(earlier_metadata.get("generation", 0))


def _owned_status(kind: TranslatedKind, stored: Object) -> Object:
    status = stored.get("status") or {}
    part: Object = {name: status[name] for name in STATUS_FIELDS[kind] if name in status}
    own = [condition for condition in status.get("conditions") or () if _is_own(condition)]
    if own:
        part["conditions"] = sorted(own, key=lambda condition: str(condition["type"]))
    return part


def _removal_patch(kind: TranslatedKind, applied: Object, desired: Object) -> Object:
    """The patch that removes owned fields and conditions that are not desired, or {}.

    Apply does not remove fields that an earlier build applied with another field manager.
    """
    applied_part = _owned_status(kind, applied)
    patch: Object = {
        name: None for name in applied_part if name not in desired and name != "conditions"
    }
    types = {condition["type"] for condition in desired.get("conditions", ())}
    conditions = applied.get("status", {}).get("conditions") or []
    remaining = [
        condition
        for condition in conditions
        if not _is_own(condition) or condition["type"] in types
    ]
    return patch if remaining == conditions else patch | {"conditions": remaining}


def _is_own(condition: Object) -> bool:
    return condition["type"] in (*TRANSLATOR_CONDITIONS, *REPORTED_CONDITIONS)
