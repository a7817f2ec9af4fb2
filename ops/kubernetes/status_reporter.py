"""The reporter: writes the state of the projection into custom resources.

A round writes the differences between changed objects and the projection; a later round retries
failed writes. SpiderEndpoints are written with create and merge, which cost the API server less
than apply. The resourceVersion in a merge makes the API server refuse late writes of a former
leader. ``pool_status_writer`` writes the other statuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec

from core.domain.evolution import EndpointKey
from core.errors import ApiError, ApiNotFound, ApiRejected, ApiUnavailable
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import Informer, ObjectKey, OwnWrites
from core.manifests.kinds.fields import API_VERSION
from core.process.concurrency import until_first
from core.projections.change_buffer import ChangeBuffer
from core.projections.projector import Projector
from ops.kubernetes.pool_outlooks import PoolOutlooks
from ops.kubernetes.pool_status_writer import STATUS_MANAGER, StatusWriter
from ops.kubernetes.status_reports import (
    REPORT_ANNOTATION,
    auto_pool_report,
    endpoint_report,
    matches_report,
    pool_report,
    subnet_report,
)
from ops.kubernetes.translated_kinds import (
    FINALIZER,
    TranslatedKind,
    is_being_deleted,
    resource_version,
)

ENDPOINTS: Final = f"/apis/{API_VERSION}/spiderendpoints"

ROUND_S: Final = 0.5
"""The pause between two rounds: at most two writes a second to one object."""

GATHERING_S: Final = ROUND_S
"""Rounds of pools and subnets wait this long: a burst of ADDs costs one write."""

CONCURRENT_WRITES_MAX: Final = 32
"""Concurrent requests cost API server and etcd half the CPU of sequential requests.

A higher limit saves hardly more. A connection needs some 0.1 MB of memory in the controller.
"""

REJECTED_S: Final = 60.0
"""Rejected reports are retried after this time: permissions may be granted later."""

K = TypeVar("K")

_log: Final = logging.getLogger(__name__)


def endpoints_path(namespace: str) -> str:
    """The path of the SpiderEndpoints of a namespace."""
    return f"/apis/{API_VERSION}/namespaces/{segment(namespace)}/spiderendpoints"


def endpoint_path(key: EndpointKey) -> str:
    """The path of the SpiderEndpoint of a Pod."""
    namespace, name = key
    return f"{endpoints_path(namespace)}/{segment(name)}"


def cached_part(stored: Object) -> Object:
    """The cached fields of a SpiderEndpoint; few, because clusters have thousands of objects."""
    metadata = stored["metadata"]
    names = ("namespace", "name", "uid", "resourceVersion", "finalizers", "deletionTimestamp")
    cached = {name: metadata[name] for name in names if name in metadata}
    return {"metadata": cached, "content_hash": content_hash(stored), "is_ours": is_ours(stored)}


def is_ours(endpoint: Object) -> bool:
    """Whether a SpiderEndpoint has the annotation or the field manager of the reporter."""
    metadata = endpoint["metadata"]
    managers = (entry.get("manager") for entry in metadata.get("managedFields") or ())
    return REPORT_ANNOTATION in _annotations(endpoint) or STATUS_MANAGER in managers


def content_hash(endpoint: Object) -> int:
    """A hash of the status and owners of a SpiderEndpoint."""
    owners = [owner["uid"] for owner in endpoint["metadata"].get("ownerReferences", ())]
    return hash(msgspec.json.encode([endpoint.get("status"), owners], order="sorted"))


class _Topic(NamedTuple):
    """A group of objects with its own rounds: configuration, or endpoints.

    ``names`` returns the group's objects in a buffer. ``gathering_s``: how long a round waits for
    more changes of the log.
    """

    names: Callable[[ChangeBuffer], AbstractSet[object]]
    object_changed: asyncio.Event
    gathering_s: float = 0.0


class _Reports(ChangeBuffer):
    """The objects whose reports are retried.

    ChangeBuffer lacks reservations, because nothing in their status comes from the log.
    """

    __slots__ = ("reservations",)

    def __init__(self) -> None:
        super().__init__()
        self.reservations: set[str] = set()


class Reporter:
    """Writes the reports. ``pending``: the objects of the next round."""

    def __init__(
        self,
        api: Api,
        projector: Projector,
        informers: Mapping[TranslatedKind, Informer],
        status: StatusWriter,
        outlooks: PoolOutlooks,
        *,
        round_s: float = ROUND_S,
    ) -> None:
        self.endpoints = Informer(api, ENDPOINTS, cached_part)
        self.pending = ChangeBuffer()
        self._api = api
        self._projector = projector
        self._informers = informers
        self._status = status
        self._own_writes = 0
        self._round_s = round_s
        self._rejected = _Reports()
        self._waiting_topics_count = 0
        self._configuration_topic = _Topic(
            lambda changes: changes.pools | changes.subnets, asyncio.Event(), GATHERING_S
        )
        self._endpoint_topic = _Topic(lambda changes: changes.endpoints, asyncio.Event())
        self._own_endpoint_writes = OwnWrites(self.endpoints)
        self.endpoints.listen(self._note_endpoints)
        for kind, names in (
            (TranslatedKind.POOL, self.pending.pools),
            (TranslatedKind.SUBNET, self.pending.subnets),
            (TranslatedKind.RESERVATION, status.pending[TranslatedKind.RESERVATION]),
        ):
            informers[kind].listen(partial(self._note, kind, names))
        status.on_conditions_set(self._configuration_topic.object_changed.set)
        self._outlooks = outlooks
        outlooks.listen(self._note_outlooks)

    @property
    def writes(self) -> int:
        """The number of writes."""
        return self._own_writes + self._status.writes

    @property
    def idle(self) -> bool:
        """Whether every report was made and the reporter waits for the next change."""
        is_waiting = self._waiting_topics_count == len(
            (self._configuration_topic, self._endpoint_topic)
        )
        return is_waiting and not any(self._status.pending.values())

    async def run(self) -> None:
        """Report until cancelled."""
        await until_first(self.endpoints.run(), self._report())

    async def _report(self) -> None:
        await self._projector.wait_for(lambda: self._projector.ready)
        for informer in (*self._informers.values(), self.endpoints):
            await informer.listed.wait()
        with self._projector.follow() as changes:
            # Two topics, so that pools do not wait for the rounds of endpoints.
            await until_first(
                self._run_rounds(self._configuration_topic, changes, self._report_configuration),
                self._run_rounds(self._endpoint_topic, changes, self._report_endpoints),
            )

    def _note(self, kind: TranslatedKind, names: set[str], keys: set[ObjectKey]) -> None:
        if changed := self._status.changed_by_others(kind, keys):
            names.update(changed)
            self._configuration_topic.object_changed.set()

    def _note_outlooks(self, pools: AbstractSet[str]) -> None:
        self.pending.pools.update(pools)
        self._configuration_topic.object_changed.set()

    def _note_endpoints(self, keys: Iterable[ObjectKey]) -> None:
        if changed := self._own_endpoint_writes.changed_by_others(keys):
            self.pending.endpoints.update(changed)
            self._endpoint_topic.object_changed.set()

    async def _run_rounds(
        self,
        topic: _Topic,
        changes: ChangeBuffer,
        report: Callable[[ChangeBuffer, _Reports], Awaitable[None]],
    ) -> None:
        retry_at = time.monotonic() + REJECTED_S
        await report(changes, self._rejected)
        while True:
            paused_until = time.monotonic() + self._round_s
            await self._until_changed(topic, changes, retry_at)
            await self._gather(topic)
            await asyncio.sleep(paused_until - time.monotonic())
            is_retry = time.monotonic() >= retry_at
            if is_retry:
                retry_at = time.monotonic() + REJECTED_S
            await report(changes, self._rejected if is_retry else _Reports())

    async def _until_changed(self, topic: _Topic, changes: ChangeBuffer, retry_at: float) -> None:
        is_configuration = topic is self._configuration_topic

        def is_changed() -> bool:
            has_conditions = is_configuration and any(self._status.pending.values())
            return bool(topic.names(self.pending) or topic.names(changes) or has_conditions)

        topic.object_changed.clear()
        if is_changed():
            return
        has_retries = bool(topic.names(self._rejected)) or (
            is_configuration and bool(self._rejected.reservations)
        )
        self._waiting_topics_count += 1
        try:
            async with asyncio.timeout(
                max(retry_at - time.monotonic(), 0) if has_retries else None
            ):
                await until_first(self._projector.wait_for(is_changed), topic.object_changed.wait())
        except TimeoutError:
            return
        finally:
            self._waiting_topics_count -= 1

    async def _gather(self, topic: _Topic) -> None:
        """Wait for more changes of the log; stop early when an object has changed."""
        if topic.gathering_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(topic.gathering_s):
                    await topic.object_changed.wait()

    async def _report_configuration(self, changes: ChangeBuffer, rejected: _Reports) -> None:
        pending, translated = self.pending, self._status.pending
        pools = _taken(
            pending.pools, changes.pools, rejected.pools, translated[TranslatedKind.POOL]
        )
        await self._report_each(self._report_pool, pools, pending.pools, self._rejected.pools)
        subnets = _taken(
            pending.subnets, changes.subnets, rejected.subnets, translated[TranslatedKind.SUBNET]
        )
        await self._report_each(
            self._report_subnet, subnets, pending.subnets, self._rejected.subnets
        )
        pending_reservations = translated[TranslatedKind.RESERVATION]
        reservations = _taken(pending_reservations, rejected.reservations)
        await self._report_each(
            self._report_reservation,
            reservations,
            pending_reservations,
            self._rejected.reservations,
        )

    async def _report_endpoints(self, changes: ChangeBuffer, rejected: _Reports) -> None:
        pending = self.pending
        keys = _taken(pending.endpoints, changes.endpoints, rejected.endpoints)
        await self._report_each(
            self._report_endpoint, keys, pending.endpoints, self._rejected.endpoints
        )

    async def _report_each(
        self,
        report: Callable[[K], Awaitable[None]],
        keys: set[K],
        pending: set[K],
        rejected: set[K],
    ) -> None:
        """Report the keys concurrently; add failed keys to ``pending`` or ``rejected``.

        If the API server is unreachable, the remaining keys wait for the next round.
        """
        remaining = iter(keys)

        async def work() -> None:
            for key in remaining:
                try:
                    await report(key)
                except ApiUnavailable as error:
                    _log.warning("the API server is unreachable; reports are retried: %s", error)
                    pending.add(key)
                    pending.update(remaining)
                except (ApiRejected, ApiNotFound) as error:
                    _log.warning(
                        "cannot write the status of %s: %s",
                        _text_of(key),
                        error,
                        extra={"fields": {"key": str(key)}},
                    )
                    rejected.add(key)
                except ApiError:
                    pending.add(key)

        await asyncio.gather(*(work() for _ in range(CONCURRENT_WRITES_MAX)))

    async def _report_pool(self, name: str) -> None:
        stored = self._informers[TranslatedKind.POOL].objects.get(("", name))
        report = pool_report(self._projector.projection, name, self._outlooks.by_pool)
        desired = auto_pool_report(self._projector.projection.ledger, name)
        if desired is not None and not matches_report(stored, desired):
            self._own_writes += 1
            await self._api.apply(TranslatedKind.POOL.path(name), desired, STATUS_MANAGER)
        elif report is None and stored is not None and REPORT_ANNOTATION in _annotations(stored):
            await self._delete(TranslatedKind.POOL.path(name), stored)
        else:
            await self._status.write(TranslatedKind.POOL, name, report)

    async def _report_subnet(self, name: str) -> None:
        report = subnet_report(self._projector.projection.ledger, name)
        await self._status.write(TranslatedKind.SUBNET, name, report)

    async def _report_reservation(self, name: str) -> None:
        await self._status.write(TranslatedKind.RESERVATION, name, None)

    async def _report_endpoint(self, key: EndpointKey) -> None:
        stored = self.endpoints.objects.get(key)
        desired = endpoint_report(self._projector.projection.ledger, key)
        if desired is None or (stored is not None and _is_superseded(stored, desired)):
            if stored is not None and stored["is_ours"]:
                await self._delete(endpoint_path(key), stored)
        elif stored is None:
            self._own_writes += 1
            created = await self._api.create(endpoints_path(key[0]), desired, STATUS_MANAGER)
            if is_ours(created):  # otherwise the next round adds the annotation
                self._own_endpoint_writes.note(created)
        elif not stored["is_ours"] or _is_outdated(stored, desired):
            self._own_writes += 1
            merged = await self._api.merge(
                endpoint_path(key), _merge_patch(stored, desired), STATUS_MANAGER
            )
            self._own_endpoint_writes.note(merged)

    async def _delete(self, path: str, stored: Object) -> None:
        metadata = stored["metadata"]
        finalizers = metadata.get("finalizers", [])
        with contextlib.suppress(ApiNotFound):
            if FINALIZER in finalizers:
                others = [name for name in finalizers if name != FINALIZER]
                body = {"metadata": {"finalizers": others} | resource_version(stored)}
                self._own_writes += 1
                await self._api.merge(path, body)
            if not is_being_deleted(stored):
                self._own_writes += 1
                await self._api.delete(path, metadata["uid"])


def _annotations(stored: Object) -> Mapping[str, str]:
    annotations: Mapping[str, str] = stored["metadata"].get("annotations", {})
    return annotations


def _merge_patch(stored: Object, desired: Object) -> Object:
    """The patch that makes a SpiderEndpoint equal its report.

    A merge patch replaces lists, so the patch repeats the finalizers of other clients.
    """
    metadata = desired["metadata"]
    others = [name for name in stored["metadata"].get("finalizers", ()) if name != FINALIZER]
    changed = {
        "annotations": {REPORT_ANNOTATION: "true"},
        "finalizers": [*others, *metadata["finalizers"]],
        "ownerReferences": metadata.get("ownerReferences"),
    }
    return {"metadata": changed | resource_version(stored), "status": desired["status"]}


def _is_outdated(stored: Object, desired: Object) -> bool:
    return not is_being_deleted(stored) and bool(stored["content_hash"] != content_hash(desired))


def _is_superseded(stored: Object, desired: Object) -> bool:
    """Whether the object is being deleted and reports an earlier Pod's addresses.

    An object with the current addresses is kept until they are released.
    """
    return is_being_deleted(stored) and bool(
        stored["is_ours"] and stored["content_hash"] != content_hash(desired)
    )


def _text_of(key: object) -> str:
    return "/".join(key) if isinstance(key, tuple) else str(key)


def _taken(*sources: set[K]) -> set[K]:
    """Empty these sets, and return all their values."""
    values: set[K] = set().union(*sources)
    for source in sources:
        source.clear()
    return values
