"""The status of SpiderIPPools, SpiderSubnets and SpiderReservedIPs: one writer, one field manager.

The translator has the result of applying an object, the reporter has the state of its addresses.
This module merges both into one status and applies it. After a change of leader, until one of the
two has processed an object, its fields and conditions stay unchanged. A field or condition that an
earlier build applied by another manager is removed by a patch, because apply does not remove it.

A write contains the resourceVersion of the object that it was computed from. Late writes of a
former leader are refused by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Echoes, Informer, ObjectKey
from ops.kubernetes.conditions import TRANSLATED, DesiredCondition, conditions, is_new
from ops.kubernetes.objects import Clock, ObjectWriter, identity, utc_now
from ops.kubernetes.reports import OBSERVED, StatusReport
from ops.kubernetes.resources import TranslatedKind, resource_version

MANAGER: Final = "orbweaver-reporter"

STATUS_FIELDS: Final = {
    TranslatedKind.POOL: ("allocatedIPs", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.SUBNET: ("controlledIPPools", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.RESERVATION: (),
}
"""The fields of each status, besides its conditions."""


class _Observation(NamedTuple):
    """The conditions that the translator found for one version of an object."""

    one: Object
    conditions: Sequence[DesiredCondition]


class StatusWriter:
    """``pending``: the names, by kind, with new observations of the translator."""

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
        self._wake: Callable[[], None] = lambda: None
        self._observations: dict[TranslatedKind, dict[str, _Observation]] = {
            kind: {} for kind in TranslatedKind
        }
        self._echoes = {kind: Echoes(informers[kind]) for kind in TranslatedKind}

    def observe(
        self, kind: TranslatedKind, stored: Object, conditions: Sequence[DesiredCondition]
    ) -> None:
        """Store the translator's conditions of an object; the next report writes them."""
        name = stored["metadata"]["name"]
        self._observations[kind][name] = _Observation(stored, conditions)
        self.pending[kind].add(name)
        self._wake()

    def on_observed(self, wake: Callable[[], None]) -> None:
        """Call this after each observation."""
        self._wake = wake

    def changed_by_others(self, kind: TranslatedKind, keys: set[ObjectKey]) -> set[str]:
        """The names of these objects, except those that only this writer has changed."""
        for _, name in keys:
            if ("", name) not in self._informers[kind].objects:
                self._observations[kind].pop(name, None)
        return {name for _, name in self._echoes[kind].without(keys)}

    async def write(self, kind: TranslatedKind, name: str, report: StatusReport | None) -> None:
        """Write the status of an object; ``report`` None: it has no report.

        Also publishes an Event for each new refusal. Raises ApiError.
        """
        stored = self._informers[kind].objects.get(("", name))
        if stored is None:
            return
        observation = self._observations[kind].get(name)
        if observation is not None and (age := _generations_behind(observation.one, stored)):
            if age < 0:
                return  # the watch of the writer is older than the translator's object
            observation = None
        before = _own_part(kind, stored)
        desired = self._merged(kind, stored, report, observation)
        if desired == before:
            return
        body = identity(kind, stored) | {"status": desired}
        body["metadata"] |= resource_version(stored)
        path = f"{kind.path(name)}/status"
        self.writes += 1
        applied = await self._api.apply(path, body, MANAGER)
        if left := _left_over(kind, applied, desired):
            self.writes += 1
            applied = await self._api.merge(
                path, {"metadata": resource_version(applied), "status": left}
            )
        self._echoes[kind].note(applied)
        for condition in observation.conditions if observation else ():
            if condition.status == "False" and is_new(stored, condition):
                await self._objects.create_event(stored, condition)

    def _merged(
        self,
        kind: TranslatedKind,
        stored: Object,
        report: StatusReport | None,
        observation: _Observation | None,
    ) -> Object:
        """The desired fields and conditions of this writer."""
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = _own_part(kind, stored)
        by_type = {condition["type"]: condition for condition in status.pop("conditions", [])}
        if report is not None:
            status = dict(report.fields)
            by_type = {
                name: condition
                for name, condition in by_type.items()
                if name not in OBSERVED or name in report.unknown
            }
            by_type |= {
                condition["type"]: condition
                for condition in conditions(stored, report.conditions, now)
            }
        if observation is not None:
            by_type = {
                name: condition for name, condition in by_type.items() if name not in TRANSLATED
            }
            observed = conditions(stored, observation.conditions, now)
            by_type |= {condition["type"]: condition for condition in observed}
        if by_type:
            status["conditions"] = [by_type[name] for name in sorted(by_type)]
        return status


def _generations_behind(observed: Object, stored: Object) -> int:
    """How many generations ``observed`` is older; 1 for an earlier object of this name."""
    was, now = observed["metadata"], stored["metadata"]
    if was["uid"] != now["uid"]:
        return 1
    return int(now.get("generation", 0)) - int(was.get("generation", 0))


def _own_part(kind: TranslatedKind, stored: Object) -> Object:
    """The fields and conditions of a status that this writer owns."""
    status = stored.get("status") or {}
    part: Object = {name: status[name] for name in STATUS_FIELDS[kind] if name in status}
    if conditions := [
        condition for condition in status.get("conditions") or () if _is_own(condition)
    ]:
        part["conditions"] = sorted(conditions, key=lambda condition: str(condition["type"]))
    return part


def _left_over(kind: TranslatedKind, applied: Object, desired: Object) -> Object:
    """The patch that removes our fields that were not applied; {} if there are none."""
    applied_part = _own_part(kind, applied)
    patch: Object = {
        name: None for name in applied_part if name not in desired and name != "conditions"
    }
    types = {condition["type"] for condition in desired.get("conditions", ())}
    every = applied.get("status", {}).get("conditions") or []
    right = [
        condition for condition in every if not _is_own(condition) or condition["type"] in types
    ]
    return patch if right == every else patch | {"conditions": right}


def _is_own(condition: Object) -> bool:
    return condition["type"] in (*TRANSLATED, *OBSERVED)
