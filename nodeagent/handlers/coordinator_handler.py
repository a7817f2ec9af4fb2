"""The coordinator's verbs for the doors: in worker threads, one call of a container at a time.

Promise: the event loop never waits for the kernel; a call that its caller has given up goes on to
its end before the next one of its container begins. It decides nothing: ``nodeagent.coordinator``
does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.errors import BadInput, DatapathError, NotReady
from nodeagent.cni_protocol.call import Call
from nodeagent.cni_protocol.failures import CHECK_FAILED, CniFailure
from nodeagent.coordinator.announcer import Announcer
from nodeagent.coordinator.attachment_records import AttachmentRecord, AttachmentRecords
from nodeagent.coordinator.cluster import CoordinatorDefaults
from nodeagent.coordinator.engine import AttachRequest, AttachResult, Engine
from nodeagent.coordinator.pod_annotations import default_route_nic, expected_nics
from nodeagent.coordinator.settings import (
    BUILT_IN,
    CoordinatorSettings,
    WrittenSettings,
    effective,
    fallen_back,
)
from nodeagent.facts import FactsSource
from nodeagent.handlers.missing_attachments import MissingAttachments, incomplete, valid_attachments
from nodeagent.netlink.namespaces import NetnsExecutor

T = TypeVar("T")

WORKERS: Final = 8
"""Calls in the kernel at once. Its own lock lets one of them change links and routes at a time, but
what a DEL does is mostly waiting outside it; ADDs gain and lose little."""

REMEDY: Final = "DEL and ADD this attachment again"

_log: Final = logging.getLogger(__name__)


class AttachmentGcResult(NamedTuple):
    """What one GC did: attachments taken back, and how many were not in the list."""

    removed: tuple[str, ...]
    missing: int


class CoordinatorHandler:
    """Does the coordinator's ADDs, DELs, CHECKs and GCs."""

    def __init__(
        self,
        engine: Engine,
        records: AttachmentRecords,
        announcer: Announcer,
        executor: NetnsExecutor,
        facts: FactsSource,
        cluster: CoordinatorDefaults,
        monotonic: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._records = records
        self._announcer = announcer
        self._facts = facts
        self._cluster = cluster
        self._missing = MissingAttachments(monotonic)
        self._workers = ThreadPoolExecutor(
            WORKERS, "coordinator", initializer=executor.run_directly
        )
        self._turns = _Turns()

    async def add(self, call: Call, conf: WrittenSettings) -> AttachResult | None:
        """Set a NIC up; None where the mode is disabled. Raises BadInput, DatapathError, NotReady.

        The Pod's annotation goes before the network configuration, and that before the cluster.
        """
        annotations = await self._annotations(call.pod)
        settings = effective(conf, self._cluster.written(), default_route_nic(annotations))
        if settings.mode == "disable":
            return None
        order = AttachRequest(call.attachment, settings, expected_nics(annotations))
        return await self._work(call.attachment.container, lambda: self._engine.add(order))

    def fault(self) -> NotReady | None:
        """Why no ADD can be set up now, by the cluster's settings as last seen; None: none."""
        try:
            self._cluster.written()
        except NotReady as error:
            return error
        return None

    async def configuration(self, pod: PodReference) -> WrittenSettings:
        """The settings that a network configuration may leave out for this Pod.

        Raises NotReady, and WrongInput when the API server has no such Pod.
        """
        annotations = await self._annotations(pod)
        wish = WrittenSettings(pod_default_route_nic=default_route_nic(annotations))
        return fallen_back(wish, self._cluster.written())

    async def delete(self, call: Call, conf: WrittenSettings) -> bool:
        """Take a NIC's set-up back; whether there was something. Raises DatapathError."""
        settings = self._lenient(conf)
        if settings.mode == "disable":
            return False
        attachment, first = call.attachment, settings.first_nic
        return await self._work(
            attachment.container, lambda: self._engine.delete(attachment, first)
        )

    async def check(self, call: Call, conf: WrittenSettings) -> None:
        """Raises CniFailure with every difference, DatapathError when the kernel cannot be read."""
        if self._lenient(conf).mode == "disable":
            return
        attachment = call.attachment
        found = await self._work(attachment.container, lambda: self._engine.check(attachment))
        if found:
            raise CniFailure(CHECK_FAILED, f"CHECK failed: {'; '.join(found)}", REMEDY)

    async def collect(self, call: Call) -> AttachmentGcResult:
        """Take back what the runtime no longer knows, on evidence only (invariant I6).

        It goes on after what cannot be taken back. Raises CniFailure when the list of valid
        attachments is missing, or with what failed.
        """
        valid = valid_attachments(call.conf)
        known = await self._known()
        suspects = [
            each
            for each in known
            if each.network == call.conf.name and (each.container, each.interface) not in valid
        ]
        look = self._missing.look(call.conf.name)
        removed: list[str] = []
        errors: list[str] = []
        for each in suspects:
            if look.evidence((each.container, each.interface), each.netns):
                name = f"{each.container}/{each.interface}"
                try:
                    await self._remove(each)
                    removed.append(name)
                except DatapathError as error:
                    errors.append(f"{name}: {error}")
        look.remember()
        if errors:
            raise incomplete("attachments", errors, len(removed))
        return AttachmentGcResult(tuple(removed), len(suspects))

    async def sweep(self) -> int:
        """Take back what Pods have lost while no agent was there to hear of it; how many NICs.

        Evidence is a wire that is gone, or a namespace without the NIC. What fails is logged.
        Raises DatapathError when the records cannot be read.
        """
        known = await self._known()
        swept = 0
        for each in known:
            try:
                lost = await self._work(each.container, partial(self._engine.is_orphaned, each))
                if lost:
                    await self._remove(each)
                    swept += 1
            except DatapathError as error:
                _log.warning("%s/%s is not taken back: %s", each.container, each.interface, error)
        return swept

    def close(self) -> None:
        """Let the workers end what they do."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._announcer.close()

    async def _annotations(self, pod: PodReference) -> Mapping[str, str]:
        """The annotations of a Pod, once Pod and cluster are known. Raises NotReady, WrongInput."""
        await self._cluster.learn()
        await self._facts.learn(pod)
        return self._facts.facts(pod).pod.annotations

    async def _remove(self, each: AttachmentRecord) -> None:
        attachment = Attachment(each.container, each.interface, each.network, each.netns)
        await self._work(each.container, lambda: self._engine.delete(attachment, ""))

    def _lenient(self, conf: WrittenSettings) -> CoordinatorSettings:
        """The settings for a DEL: what nobody could have set up with does not hinder it."""
        try:
            return effective(conf, self._cluster.written())
        except (BadInput, NotReady):
            return effective(BUILT_IN, BUILT_IN)

    async def _known(self) -> list[AttachmentRecord]:
        """Every record on the node. Raises DatapathError."""
        return await self._submitted(lambda: list(self._records.all()), "records of attachments")

    async def _work(self, container: str, do: Callable[[], T]) -> T:
        """One call of a container after the other; those that wait take no worker."""
        async with self._turns.turn(container) as turn:
            return await self._submitted(do, container, turn)

    async def _submitted(self, do: Callable[[], T], subject: str, turn: _Turn | None = None) -> T:
        try:
            work = self._workers.submit(do)
        except RuntimeError:
            raise NotReady("the agent is shutting down", remedy="try again later") from None
        if turn is not None:
            turn.work = work
        try:
            return await asyncio.wrap_future(work)
        except OSError as error:
            # Such as descriptors or memory that the kernel has no more of.
            raise DatapathError(f"the kernel refuses: {error}", subject=subject) from error


class _Turn:
    """``work`` is what the turn lasts for, though its caller may have given it up."""

    work: Future[Any] | None = None


class _Turns:
    """One turn at a time for each container."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, container: str) -> AsyncIterator[_Turn]:
        """Wait for a turn; it is over when its work is, in a worker thread."""
        lock, users = self._locks.get(container, (asyncio.Lock(), 0))
        self._locks[container] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave(container)
            raise
        turn = _Turn()
        try:
            yield turn
        finally:
            if turn.work is None or turn.work.done():
                self._end(container)
            else:
                loop = asyncio.get_running_loop()
                end = partial(loop.call_soon_threadsafe, self._end, container)
                turn.work.add_done_callback(lambda _: end())

    def _end(self, container: str) -> None:
        self._locks[container][0].release()
        self._leave(container)

    def _leave(self, container: str) -> None:
        lock, users = self._locks.pop(container)
        if users > 1:
            self._locks[container] = (lock, users - 1)
