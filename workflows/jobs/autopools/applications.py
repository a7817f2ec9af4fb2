"""Who knows the applications: one small interface, and the answer without Kubernetes.

Standalone, records take the place of API objects: an operator applies a Deployment, and deletes it.
An application of which there is no record and no deletion may still live: nobody can tell, and
nothing is taken from it (I6). Third parties never have a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.domain.autopools.applications import Application
from core.domain.autopools.names import ApplicationKey
from core.domain.autopools.records import application_in, record_key
from core.domain.events import RecordDefined
from core.domain.fixed.owners import MissingOwner
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from workflows.jobs.deletions import Deletions


class ApplicationsSource(Protocol):
    """Whoever knows the cluster's applications."""

    async def listed(self) -> None:
        """Return once ``known`` is whole, as far as it can be."""
        ...

    def known(self) -> Mapping[ApplicationKey, Application]:
        """All that are known now; an unchanged application is the same object again."""
        ...

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """What is so of one application, as new as can be had."""
        ...

    async def changed(self) -> None:
        """Return once something of ``known`` has changed."""
        ...


class RecordedApplications:
    """Applications of standalone mode. The view must be at work."""

    def __init__(self, store: KeyValueStore, keys: Keys, view: ConfigurationView) -> None:
        self._view = view
        self._deletions = Deletions(store, keys)
        self._seen: ConfigurationSnapshot = view.current
        self._read: dict[tuple[str, str, str], tuple[RecordDefined, Application]] = {}

    async def listed(self) -> None:
        """See ``ApplicationsSource``: the view is at work."""

    def known(self) -> Mapping[ApplicationKey, Application]:
        """See ``ApplicationsSource``: what the view's records say."""
        before, self._read = self._read, {}
        for key, record in self._view.current.records.items():
            if record.workload is None:
                continue
            held = before.get(key)
            if held is None or held[0] is not record:
                application = application_in(record)
                assert application is not None, "it has a workload"
                held = (record, application)
            self._read[key] = held
        return {application.key: application for _, application in self._read.values()}

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """See ``ApplicationsSource``. Raises StoreUnavailable, NotReady, LogCorrupt."""
        where = record_key(key)
        if where is None:
            why = f"{key.kind} {key.namespace}/{key.name} is a third party: nobody follows it"
            return MissingOwner(certain=False, why=why)
        await self._view.freshen()
        record = self._view.current.records.get(where)
        found = application_in(record) if record is not None else None
        if found is not None:
            return found
        await self._deletions.catch_up()
        gone = self._deletions.found.get(where)
        if gone is None:
            why = (
                f"there is no record of {key.kind} {key.namespace}/{key.name};"
                " apply its manifest with `orbctl apply -f`"
            )
            return MissingOwner(certain=False, why=why)
        return MissingOwner(certain=True, why=gone.words(where))

    async def changed(self) -> None:
        """See ``ApplicationsSource``: the view has moved on."""
        self._seen = await self._view.beyond(self._seen)
