"""The source of applications: the interface, and an implementation without Kubernetes.

Standalone mode reads the records of applied manifests. Only a recorded deletion proves that an
application was deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.domain.autopools.applications import Application, application_in, record_key
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.events import RecordDefined
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from workflows.jobs.record_lookup import Deletions


class ApplicationsSource(Protocol):
    """A source of applications."""

    async def listed(self) -> None:
        """Wait until all applications are listed, up to a time limit."""
        ...

    def known(self) -> Mapping[ApplicationKey, Application]:
        """All current applications. An unchanged application stays the same object."""
        ...

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """The newest state of one application."""
        ...

    async def changed(self) -> None:
        """Wait until the result of ``known`` has changed."""
        ...


class RecordedApplications:
    """Applications of standalone mode. The view must be running."""

    def __init__(self, store: KeyValueStore, keys: Keys, view: ConfigurationView) -> None:
        self._view = view
        self._deletions = Deletions(store, keys)
        self._last_snapshot: ConfigurationSnapshot = view.current
        self._decoded: dict[tuple[str, str, str], tuple[RecordDefined, Application]] = {}

    async def listed(self) -> None:
        """Return at once: a running view is complete."""

    def known(self) -> Mapping[ApplicationKey, Application]:
        """See ``ApplicationsSource``."""
        before, self._decoded = self._decoded, {}
        for key, record in self._view.current.records.items():
            if record.workload is None:
                continue
            decoded = before.get(key)
            if decoded is None or decoded[0] is not record:
                application = application_in(record)
                assert application is not None, "a record with a workload has an application"
                decoded = (record, application)
            self._decoded[key] = decoded
        return {application.key: application for _, application in self._decoded.values()}

    async def find(self, key: ApplicationKey) -> Application | MissingOwner:
        """See ``ApplicationsSource``. Raises StoreUnavailable, NotReady, LogCorrupt."""
        key_of_record = record_key(key)
        if key_of_record is None:
            why = (
                f"{key.kind} {key.namespace}/{key.name} is of a third-party kind,"
                " which has no record"
            )
            return MissingOwner(certain=False, why=why)
        await self._view.freshen()
        record = self._view.current.records.get(key_of_record)
        application = application_in(record) if record is not None else None
        if application is not None:
            return application
        await self._deletions.catch_up()
        deletion = self._deletions.deleted.get(key_of_record)
        if deletion is None:
            why = (
                f"there is no record of {key.kind} {key.namespace}/{key.name};"
                " apply its manifest with `orbctl apply -f`"
            )
            return MissingOwner(certain=False, why=why)
        return MissingOwner(certain=True, why=deletion.text(key_of_record))

    async def changed(self) -> None:
        """See ``ApplicationsSource``."""
        self._last_snapshot = await self._view.next_snapshot(self._last_snapshot)
