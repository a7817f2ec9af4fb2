"""Handles the coordinator's commands in worker threads, one call of each container at a time.

The event loop never waits for the kernel. A call runs to its end even if its caller gives up; only
then does the next call of the same container start. Invariants: docs/contributing/architecture.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.errors import BadInput, DatapathError, NotReady
from core.process import tracing
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.failures import CHECK_FAILED, CniFailure
from nodeagent.conflict_detection.detector import DetectionSwitches
from nodeagent.coordinator.address_announcer import Announcer
from nodeagent.coordinator.attachment_engine import AttachRequest, AttachResult, Engine
from nodeagent.coordinator.attachment_records import AttachmentRecord, AttachmentRecords
from nodeagent.coordinator.pod_annotations import default_route_nic, expected_nics
from nodeagent.coordinator.settings import (
    BUILT_IN,
    CoordinatorDefaults,
    CoordinatorSettings,
    UnparsedSettings,
    effective_settings,
    merge_settings,
)
from nodeagent.handlers.missing_attachments import MissingAttachments, gc_failure, valid_attachments
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.pod_facts import FactsSource

T = TypeVar("T")

ProbeAddresses = Callable[[Call, DetectionSwitches], Awaitable[None]]
"""Raises if another host uses an address of the interface, or a gateway does not answer."""

COORDINATOR_THREADS: Final = 8
"""Concurrent calls. The kernel's RTNL lock allows one change at a time, but a DEL spends most of
its time outside the lock."""

ATTACH: Final = "coordinator.attach"
DETACH: Final = "coordinator.detach"
COMPARE: Final = "coordinator.compare"

REMEDY: Final = "delete the Pod; its controller creates a new Pod"

_log: Final = logging.getLogger(__name__)


class AttachmentGcResult(NamedTuple):
    """The result of a GC.

    ``missing``: how many attachments the runtime did not list, including the removed ones.
    """

    removed: tuple[str, ...]
    missing: int


class CoordinatorHandler:
    """Handles the coordinator's ADDs, DELs, CHECKs and GCs."""

    def __init__(
        self,
        engine: Engine,
        records: AttachmentRecords,
        announcer: Announcer,
        executor: NetnsExecutor,
        facts: FactsSource,
        cluster: CoordinatorDefaults,
        probe: ProbeAddresses,
        monotonic: Callable[[], float],
    ) -> None:
        self._probe = probe
        self._engine = engine
        self._records = records
        self._announcer = announcer
        self._facts = facts
        self._cluster = cluster
        self._missing = MissingAttachments(monotonic)
        self._workers = ThreadPoolExecutor(
            COORDINATOR_THREADS, "coordinator", initializer=executor.let_thread_enter_namespaces
        )
        self._container_locks = _ContainerLocks()

    async def handle_add(self, call: Call, conf: UnparsedSettings) -> AttachResult | None:
        """Set up a NIC; None if the mode is disabled.

        The Pod's annotation overrides the network configuration, which overrides the settings of
        the cluster. Raises BadInput, DatapathError, NotReady, and the errors of ``ProbeAddresses``.
        """
        # The ADD holds the lock also while it probes: a DEL that ran meanwhile would find nothing,
        # and the attachment that the ADD sets up afterwards would stay.
        async with self._container_locks.hold(call.attachment.container) as lock_holder:
            annotations = await self._annotations(call.pod)
            cluster = self._cluster.current_settings()
            settings = effective_settings(conf, cluster, default_route_nic(annotations))
            if settings.mode == "disable":
                return None
            merged_settings = merge_settings(conf, cluster)
            await self._probe(
                call,
                DetectionSwitches(
                    conflicts=bool(merged_settings.detect_ip_conflict),
                    gateway=bool(merged_settings.detect_gateway),
                    timing=settings.detection,
                ),
            )
            request = AttachRequest(call.attachment, settings, expected_nics(annotations))
            return await self._attach(request, lock_holder)

    def fault(self) -> NotReady | None:
        """Why ADDs cannot be handled now; None if they can."""
        try:
            self._cluster.current_settings()
        except NotReady as error:
            return error
        return None

    async def configuration(self, pod: PodReference) -> UnparsedSettings:
        """The settings for this Pod from its annotations and the cluster.

        Raises NotReady, and WrongInput if the Pod does not exist.
        """
        annotations = await self._annotations(pod)
        pod_settings = UnparsedSettings(pod_default_route_nic=default_route_nic(annotations))
        return merge_settings(pod_settings, self._cluster.current_settings())

    async def handle_delete(self, call: Call, conf: UnparsedSettings) -> bool:
        """Revert the set-up of a NIC; False if there is none. Raises DatapathError."""
        settings = self._settings_or_default(conf)
        attachment = call.attachment
        # Without a record, a host veth is deleted for ``first_nic`` only. In mode disable there is
        # no ``first_nic``, because the agent may not have created the veth.
        first_nic = "" if settings.mode == "disable" else settings.first_nic
        with tracing.child_span(DETACH):
            return await self._run(
                attachment.container, lambda: self._engine.detach(attachment, first_nic)
            )

    async def handle_check(self, call: Call, conf: UnparsedSettings) -> None:
        """Raises CniFailure with all differences, or DatapathError if the kernel cannot be read."""
        if self._settings_or_default(conf).mode == "disable":
            return
        attachment = call.attachment
        with tracing.child_span(COMPARE):
            differences = await self._run(
                attachment.container, lambda: self._engine.find_differences(attachment)
            )
        if differences:
            raise CniFailure(CHECK_FAILED, f"CHECK failed: {'; '.join(differences)}", REMEDY)

    async def handle_gc(self, call: Call) -> AttachmentGcResult:
        """Remove attachments that the runtime does not list, if there is evidence (I6).

        GC continues after errors. Raises CniFailure if the list of valid attachments is missing, or
        with all errors at the end.
        """
        valid_ids = valid_attachments(call.conf)
        suspects = [
            record
            for record in await self._all_records()
            if record.network == call.conf.name
            and (record.container, record.interface) not in valid_ids
        ]
        gc_pass = self._missing.start(call.conf.name)
        removed: list[str] = []
        errors: list[str] = []
        for record in suspects:
            if gc_pass.evidence((record.container, record.interface), record.netns):
                name = f"{record.container}/{record.interface}"
                try:
                    if await self._remove(record):
                        removed.append(name)
                except DatapathError as error:
                    errors.append(f"{name}: {error}")
        gc_pass.end()
        if errors:
            raise gc_failure("attachment", errors, len(removed))
        return AttachmentGcResult(tuple(removed), len(suspects))

    async def remove_stale(self) -> int:
        """Remove attachments whose NIC disappeared while no agent ran. Returns how many.

        Evidence is a missing host veth, or a namespace without the NIC. A failed removal is logged.
        Raises DatapathError if the attachment records cannot be read.
        """
        count = 0
        for record in await self._all_records():
            try:
                is_stale = partial(self._engine.is_orphaned, record)
                if await self._run(record.container, is_stale):
                    count += await self._remove(record)
            except DatapathError as error:
                name = f"{record.container}/{record.interface}"
                _log.warning("cannot remove the stale attachment %s: %s", name, error)
        return count

    def close(self) -> None:
        """Wait for running calls, then stop the worker threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._announcer.close()

    async def _annotations(self, pod: PodReference) -> Mapping[str, str]:
        await self._cluster.load()
        await self._facts.load_pod(pod)
        return self._facts.facts(pod).pod.annotations

    async def _attach(self, request: AttachRequest, lock_holder: _LockHolder) -> AttachResult:
        with tracing.child_span(ATTACH) as span:
            result = await self._submit(
                lambda: self._engine.attach(request), request.attachment.container, lock_holder
            )
            if span is not None:
                span.set_attribute("coordinator.mode", result.mode)
                span.set_attribute("coordinator.repeated", result.repeated)
            return result

    async def _remove(self, record: AttachmentRecord) -> bool:
        """Revert an attachment; False if its record is no longer ``record``."""
        attachment = Attachment(record.container, record.interface, record.network, record.netns)

        def detach_if_unchanged() -> bool:
            current = self._records.get(record.container, record.interface)
            return current == record and self._engine.detach(attachment, first_nic="")

        with tracing.child_span(DETACH):
            return await self._run(record.container, detach_if_unchanged)

    def _settings_or_default(self, conf: UnparsedSettings) -> CoordinatorSettings:
        """The settings for DEL and CHECK; built-in settings if the current are unusable."""
        try:
            return effective_settings(conf, self._cluster.current_settings())
        except (BadInput, NotReady):
            return effective_settings(BUILT_IN, BUILT_IN)

    async def _all_records(self) -> list[AttachmentRecord]:
        return await self._submit(lambda: list(self._records.all()), "records of attachments")

    async def _run(self, container: str, call: Callable[[], T]) -> T:
        """Run a call after the container's earlier calls. A waiting call occupies no thread."""
        async with self._container_locks.hold(container) as lock_holder:
            return await self._submit(call, container, lock_holder)

    async def _submit(
        self, call: Callable[[], T], subject: str, lock_holder: _LockHolder | None = None
    ) -> T:
        try:
            work = self._workers.submit(tracing.in_current_context(call))
        except RuntimeError:
            raise NotReady("the agent is shutting down", remedy="try again later") from None
        if lock_holder is not None:
            lock_holder.work = work
        try:
            return await asyncio.wrap_future(work)
        except OSError as error:
            raise DatapathError(  # for example EMFILE, ENOMEM
                f"the kernel refused a call: {error}",
                subject=subject,
                remedy="try again; if it fails again, check the agent's open files and memory",
            ) from error


class _LockHolder:
    """The holder of a container's lock. ``work``: its call, which runs in a worker thread."""

    work: Future[Any] | None = None


class _ContainerLocks:
    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, container: str) -> AsyncIterator[_LockHolder]:
        """Hold the lock until the container's call in a worker thread has ended."""
        lock, users = self._locks.get(container, (asyncio.Lock(), 0))
        self._locks[container] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._forget(container)
            raise
        lock_holder = _LockHolder()
        try:
            yield lock_holder
        finally:
            if lock_holder.work is None or lock_holder.work.done():
                self._release(container)
            else:
                loop = asyncio.get_running_loop()
                release = partial(loop.call_soon_threadsafe, self._release, container)
                lock_holder.work.add_done_callback(lambda _: release())

    def _release(self, container: str) -> None:
        self._locks[container][0].release()
        self._forget(container)

    def _forget(self, container: str) -> None:
        lock, users = self._locks.pop(container)
        if users > 1:
            self._locks[container] = (lock, users - 1)
