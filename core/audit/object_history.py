"""The history of one pool, subnet, reservation, record or application.

The history of an application has the changes of its record, its number of Pods, and its automatic
pools.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.audit.history_entries import EntryKind, EntryList, HistoryEntry, HistorySubject, stamp_of
from core.domain.autopools.applications import BUILT_IN
from core.domain.autopools.pool_names import application_of
from core.domain.events import (
    ApplicationScaled,
    PoolDefined,
    PoolDeleted,
    PoolRetired,
    RecordDefined,
    RecordDeleted,
    Recorded,
    ReservationDefined,
    ReservationDeleted,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.model import Pool, Reservation, Route, Subnet, Workload
from core.domain.validation.common_rules import counted

OBJECT_KINDS: Final = frozenset(("pool", "subnet", "reservation", "record", "application"))

ConfigurationObject = Pool | Subnet | Reservation | RecordDefined


class ObjectChange(NamedTuple):
    """A change of one object; ``value`` is None if the object was retired or deleted."""

    kind: str
    name: str
    value: ConfigurationObject | None = None
    retired: bool = False


class ObjectHistory(EntryList):
    """Collects the changes of one subject."""

    def __init__(self, subject: HistorySubject) -> None:
        super().__init__(subject)
        self._values: dict[tuple[str, str], ConfigurationObject] = {}
        self._last_scaling: Recorded | None = None
        self._size: ApplicationScaled | None = None

    def take(self, recorded: Recorded) -> None:
        """Add the next event of the log."""
        if isinstance(recorded.event, ApplicationScaled):
            self._take_size(recorded, recorded.event)
            return
        change = change_of(recorded)
        if change is None or not self._concerns(change):
            return
        key = change.kind, change.name
        before = self._values.get(key)
        if change.value is not None:
            self._values[key] = change.value
            self._defined(change, before, change.value, recorded)
        elif change.retired:
            if isinstance(before, Pool | Subnet):
                self._values[key] = before._replace(retiring=True)
            self._add("retired", change, recorded)
        else:
            self._values.pop(key, None)
            self._add("deleted", change, recorded)

    def _take_size(self, recorded: Recorded, event: ApplicationScaled) -> None:
        self._last_scaling = recorded
        subject = HistorySubject("application", f"{event.namespace}/{event.name}")
        if self.subject == subject and event != self._size:
            self._size = event
            at = stamp_of(recorded)
            self.add(HistoryEntry("scaled", self.subject.name, at, text=size_in_words(event)))

    def _because(self, recorded: Recorded) -> str:
        """The text ", because ...", or "" if the last scaling is not the cause."""
        scaling = self._last_scaling
        if scaling is None or scaling.event_id != recorded.cause.causation_id:
            return ""
        assert isinstance(scaling.event, ApplicationScaled)
        return f", because {size_in_words(scaling.event)}"

    def _concerns(self, change: ObjectChange) -> bool:
        kind, name = self.subject
        if kind != "application":
            return change.kind == kind and change.name.casefold() == name.casefold()
        if (change.kind, change.name) in self._values:
            return True
        match change.value:
            case Pool():
                owner = application_of(change.value.labels)
                return owner is not None and f"{owner.namespace}/{owner.name}" == name
            case RecordDefined() as record:
                return record.kind in BUILT_IN and f"{record.namespace}/{record.name}" == name
            case _:
                return False

    def _defined(
        self,
        change: ObjectChange,
        before: ConfigurationObject | None,
        value: ConfigurationObject,
        recorded: Recorded,
    ) -> None:
        if before is None:
            self._add("defined", change, recorded, describe_object(value) + self._because(recorded))
        elif getattr(before, "retiring", False) and not getattr(value, "retiring", False):
            self._add("reinstated", change, recorded)
        else:
            text = changes_between(before, value) + self._because(recorded)
            self._add("changed", change, recorded, text)

    def _add(
        self, kind: EntryKind, change: ObjectChange, recorded: Recorded, text: str = ""
    ) -> None:
        pool = change.name if change.kind == "pool" else ""
        if self.subject.kind == "application":
            text = f"{change.kind} {change.name}" + (f": {text}" if text else "")
        name = self.subject.name
        self.add(HistoryEntry(kind, name, stamp_of(recorded), pool=pool, text=text))


def size_in_words(event: ApplicationScaled) -> str:
    """The application and its number of Pods."""
    pods = counted(event.replicas, "Pod")
    return f"{event.kind} {event.namespace}/{event.name} has {pods}"


def change_of(recorded: Recorded) -> ObjectChange | None:
    """The change of a configuration object; None for other events."""
    match recorded.event:
        case PoolDefined(pool):
            return ObjectChange("pool", pool.name, pool)
        case SubnetDefined(subnet):
            return ObjectChange("subnet", subnet.name, subnet)
        case ReservationDefined(reservation):
            return ObjectChange("reservation", reservation.name, reservation)
        case RecordDefined(kind, namespace, name) as record:
            return ObjectChange("record", _path(kind, namespace, name), record)
        case PoolRetired(name) | SubnetRetired(name) as event:
            return ObjectChange(_kind_of(event), name, retired=True)
        case PoolDeleted(name) | SubnetDeleted(name) | ReservationDeleted(name) as event:
            return ObjectChange(_kind_of(event), name)
        case RecordDeleted(kind, namespace, name):
            return ObjectChange("record", _path(kind, namespace, name))
        case _:
            return None


def _kind_of(
    event: PoolRetired | SubnetRetired | PoolDeleted | SubnetDeleted | ReservationDeleted,
) -> str:
    match event:
        case PoolRetired() | PoolDeleted():
            return "pool"
        case SubnetRetired() | SubnetDeleted():
            return "subnet"
        case ReservationDeleted():
            return "reservation"


def _path(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def describe_object(value: ConfigurationObject) -> str:
    """The object in one line."""
    match value:
        case Reservation():
            return ", ".join(value.ips) or "no addresses"
        case RecordDefined(kind, namespace, name):
            return changed_fields(RecordDefined(kind, namespace, name), value, "{field}: {new}")
        case Pool() | Subnet():
            excluded = f" without {', '.join(value.exclude_ips)}" if value.exclude_ips else ""
            return f"{value.subnet}: {', '.join(value.ips) or 'no addresses'}{excluded}"


def changes_between(before: ConfigurationObject, after: ConfigurationObject) -> str:
    """Each changed field as ``field: old -> new``."""
    return changed_fields(before, after, "{field}: {old} -> {new}")


def changed_fields(before: ConfigurationObject, after: ConfigurationObject, form: str) -> str:
    """Each changed field in this form, which may use ``field``, ``old`` and ``new``."""
    old_fields, new_fields = _fields(before), _fields(after)
    texts = []
    for field in {**old_fields, **new_fields}:
        old, new = old_fields.get(field), new_fields.get(field)
        if old != new:
            texts.append(form.format(field=field, old=_text(old), new=_text(new)))
    return "; ".join(texts)


def _fields(value: ConfigurationObject) -> dict[str, object]:
    fields = value._asdict()
    coordinator = fields.pop("coordinator", None)
    return fields if coordinator is None else fields | coordinator.fields()


def _text(value: object) -> str:
    if isinstance(value, Workload):
        return f"annotations {value.annotations}"
    match value:
        case None | ():
            return "none"
        case Route(dst, gateway):
            return f"{dst} via {gateway}"
        case dict():
            return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
        case tuple() if not hasattr(value, "_fields"):
            return ", ".join(map(_text, value))
        case _:
            return str(value)
