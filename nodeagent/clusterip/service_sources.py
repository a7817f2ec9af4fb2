"""Defines sources of Services, and implements the source for agents without Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.events import RecordDefined
from core.domain.services import EndpointSlice, Service
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from nodeagent.clusterip.frontends import BackendGroup, Frontend, frontends_of

SERVICE: Final = "Service"
SLICE: Final = "EndpointSlice"
Name = tuple[str, str]
"""Namespace and name."""


class ServiceSource(Protocol):
    """The source of this node's frontends."""

    def frontends(self) -> Mapping[Frontend, BackendGroup] | None:
        """All frontends. None until all Services have been read."""
        ...

    async def changed(self) -> None:
        """Wait until ``frontends`` can return something new."""
        ...


class _LabelledService(NamedTuple):
    service: Service
    labels: Mapping[str, str]


class ServiceIndex:
    """Services and EndpointSlices by name. ``frontends`` recomputes only changed Services."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._services: dict[Name, _LabelledService] = {}
        self._slices: dict[Name, EndpointSlice] = {}
        self._slices_by_service: dict[Name, dict[Name, EndpointSlice]] = {}
        self._frontends: dict[Name, dict[Frontend, BackendGroup]] = {}
        self._changed: set[Name] = set()

    def put_service(self, name: Name, service: Service | None, labels: Mapping[str, str]) -> None:
        """Add or replace a Service; None removes it."""
        self._changed.add(name)
        if service is None:
            self._services.pop(name, None)
        else:
            self._services[name] = _LabelledService(service, labels)

    def put_slice(self, name: Name, slice_: EndpointSlice | None) -> None:
        """Add or replace an EndpointSlice; None removes it."""
        before = self._slices.pop(name, None)
        if before is not None:
            owner = (name[0], before.service)
            self._slices_by_service[owner].pop(name)
            if not self._slices_by_service[owner]:
                del self._slices_by_service[owner]
            self._changed.add(owner)
        if slice_ is not None:
            owner = (name[0], slice_.service)
            self._slices[name] = slice_
            self._slices_by_service.setdefault(owner, {})[name] = slice_
            self._changed.add(owner)

    def frontends(self) -> dict[Frontend, BackendGroup]:
        """All frontends. If two Services have the same frontend, the first Service by name wins."""
        for name in self._changed:
            labelled_service = self._services.get(name)
            if labelled_service is None:
                self._frontends.pop(name, None)
                continue
            slices = list(self._slices_by_service.get(name, {}).values())
            self._frontends[name] = frontends_of(*labelled_service, slices, self._node)
        self._changed.clear()
        merged: dict[Frontend, BackendGroup] = {}
        for name in sorted(self._frontends, reverse=True):
            merged |= self._frontends[name]
        return merged


class RecordSource:
    """A ``ServiceSource`` that reads the records in the event log."""

    def __init__(self, view: ConfigurationView, node: str) -> None:
        self._view = view
        self._index = ServiceIndex(node)
        self._snapshot = ConfigurationSnapshot()
        self._records: dict[tuple[str, str, str], RecordDefined] = {}

    def frontends(self) -> Mapping[Frontend, BackendGroup] | None:
        """The frontends in the view's current snapshot."""
        snapshot = self._snapshot = self._view.current
        if not snapshot.revision:
            return None
        records = {
            key: record for key, record in snapshot.records.items() if key[0] in (SERVICE, SLICE)
        }
        for key in self._records.keys() | records.keys():
            before, after = self._records.get(key), records.get(key)
            if before is not after and before != after:
                self._put(key, after)
        self._records = records
        return self._index.frontends()

    async def changed(self) -> None:
        """Wait for a snapshot that ``frontends`` has not read."""
        await self._view.next_snapshot(self._snapshot)

    def _put(self, key: tuple[str, str, str], record: RecordDefined | None) -> None:
        kind, *name = key
        if kind == SERVICE:
            labels = record.labels if record is not None else {}
            self._index.put_service(_name(name), record and record.service, labels)
        else:
            self._index.put_slice(_name(name), record and record.slice)


def _name(parts: list[str]) -> Name:
    namespace, name = parts
    return namespace, name
