"""The status of SpiderIPPools, SpiderSubnets and SpiderReservedIPs: one writer, one field manager.

The translator knows whether an object is in force, the reporter knows the state of its addresses.
This module merges both into one status and applies it. While one of the two has not looked at an
object yet, after a change of leader, its fields and conditions stay as they are. A field or
condition that an earlier build applied by another manager is removed by a patch: applying leaves
it.

A status names the version of the object that it was made from. If a leader was cut off, its late
writes are refused when they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from core.kubernetes.api import Api, Object
from core.kubernetes.informer import Echoes, Informer, ObjectKey
from ops.kubernetes.conditions import TRANSLATED, DesiredCondition, conditions, is_new
from ops.kubernetes.objects import Clock, ObjectWriter, identity, utc_now
from ops.kubernetes.reports import OBSERVED, StatusReport
from ops.kubernetes.resources import TranslatedKind

MANAGER: Final = "orbweaver-reporter"

STATUS_FIELDS: Final = {
    TranslatedKind.POOL: ("allocatedIPs", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.SUBNET: ("controlledIPPools", "allocatedIPCount", "totalIPCount"),
    TranslatedKind.RESERVATION: (),
}
"""The fields of each status, besides its conditions."""


class _Observation(NamedTuple):
    """What the translator found, of the object as it was then."""

    one: Object
    conditions: Sequence[DesiredCondition]


class StatusWriter:
    """``pending``: names, by kind, whose status the translator has something new to say about."""

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

    def observe(self, kind: TranslatedKind, one: Object, found: Sequence[DesiredCondition]) -> None:
        """Take what the translator found of an object; it is written with the next report."""
        name = one["metadata"]["name"]
        self._observations[kind][name] = _Observation(one, found)
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
        """Make the status of an object say what is known; ``report`` None: nothing is.

        Also publishes an Event for each new refusal. Raises ApiError.
        """
        one = self._informers[kind].objects.get(("", name))
        if one is None:
            return
        observation = self._observations[kind].get(name)
        if observation is not None and (age := _generations_behind(observation.one, one)):
            if age < 0:
                return  # the translator has seen what the watch is about to bring
            observation = None
        before = _own_part(kind, one)
        wanted = self._wanted(kind, one, report, observation)
        if wanted == before:
            return
        body = identity(kind, one) | {"status": wanted}
        body["metadata"] |= _version(one)
        path = f"{kind.path(name)}/status"
        self.writes += 1
        applied = await self._api.apply(path, body, MANAGER)
        if left := _left_over(kind, applied, wanted):
            self.writes += 1
            applied = await self._api.merge(path, {"metadata": _version(applied), "status": left})
        self._echoes[kind].note(applied)
        for each in observation.conditions if observation else ():
            if each.status == "False" and is_new(one, each):
                await self._objects.tell(one, each)

    def _wanted(
        self,
        kind: TranslatedKind,
        one: Object,
        report: StatusReport | None,
        observation: _Observation | None,
    ) -> Object:
        """The part of the status that is ours, as it should be."""
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = _own_part(kind, one)
        kept = {each["type"]: each for each in status.pop("conditions", [])}
        if report is not None:
            status = dict(report.fields)
            kept = {name: each for name, each in kept.items() if name not in OBSERVED}
            kept |= {each["type"]: each for each in conditions(one, report.conditions, now)}
        if observation is not None:
            kept = {name: each for name, each in kept.items() if name not in TRANSLATED}
            found = conditions(one, observation.conditions, now)
            kept |= {each["type"]: each for each in found}
        if kept:
            status["conditions"] = [kept[name] for name in sorted(kept)]
        return status


def _generations_behind(seen: Object, one: Object) -> int:
    """How much older than this object is what was seen; another object of its name is older."""
    was, now = seen["metadata"], one["metadata"]
    if was["uid"] != now["uid"]:
        return 1
    return int(now.get("generation", 0)) - int(was.get("generation", 0))


def _own_part(kind: TranslatedKind, one: Object) -> Object:
    """The fields and conditions of a status that this writer owns."""
    status = one.get("status") or {}
    found: Object = {name: status[name] for name in STATUS_FIELDS[kind] if name in status}
    if own := [each for each in status.get("conditions") or () if _is_own(each)]:
        found["conditions"] = sorted(own, key=lambda each: str(each["type"]))
    return found


def _left_over(kind: TranslatedKind, applied: Object, wanted: Object) -> Object:
    """The patch that removes what is ours and was not applied; {} where nothing is left over."""
    own = _own_part(kind, applied)
    patch: Object = {name: None for name in own if name not in wanted and name != "conditions"}
    types = {each["type"] for each in wanted.get("conditions", ())}
    every = applied.get("status", {}).get("conditions") or []
    right = [each for each in every if not _is_own(each) or each["type"] in types]
    return patch if right == every else patch | {"conditions": right}


def _is_own(condition: Object) -> bool:
    return condition["type"] in (*TRANSLATED, *OBSERVED)


def _version(one: Object) -> Object:
    """Metadata with which a write is refused if the object has changed meanwhile."""
    return {"resourceVersion": one["metadata"]["resourceVersion"]}
