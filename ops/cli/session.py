"""One run of orbctl: the connection to a cluster, and a writer for changes.

Each writer name has a head key in etcd that is never deleted, so orbctl has only ``WRITERS_MAX``
writer names; user and host determine the name. If two runs write with one name, the later run
fences the earlier run: the write of the earlier run fails without an effect and is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.allocation.cooldown import CoolDown
from core.allocation.releaser import Releaser
from core.archive.archive_directory import LocalFiles
from core.configuration.configurator import Configurator
from core.domain.events import Cause
from core.errors import Compacted, OrbweaverError, WriterFenced
from core.eventstore.etcd import EtcdStore
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.process import tracing
from ops.cli.exit_codes import Exit, report
from ops.cli.formats import TABLE_OUTPUT, Output
from ops.cli.global_options import Globals, ProcessContext
from ops.settings import ClusterSettings

T = TypeVar("T")

WRITERS_MAX: Final = 16

READ_S_MAX: Final = 4.0
"""Limit for one read; the election of an etcd leader takes less time."""

FENCED_TRIES_MAX: Final = 6

FENCED_PAUSE_S_MAX: Final = 0.4

COMPACTED_TRIES_MAX: Final = 3


class ClusterSession:
    """The cluster and the output format of a run. Must be created inside the event loop."""

    def __init__(
        self, settings: ClusterSettings, process: ProcessContext, output: Output = TABLE_OUTPUT
    ) -> None:
        self.settings = settings
        self.output = output
        open_store = process.open_store or EtcdStore
        self.store: KeyValueStore = open_store(settings.etcd._replace(read_deadline_s=READ_S_MAX))
        self.keys: Keys = Keys(settings.cluster)
        self.now_ms = process.now_ms
        self.actor = f"orbctl/{process.who()}"

    @property
    def archive(self) -> LocalFiles:
        """The archive directory."""
        return LocalFiles(self.settings.archive)

    @property
    def cause(self) -> Cause:
        """The cause of this run's events."""
        return Cause(self.actor, traceparent=tracing.event_traceparent(""))

    async def write(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        """Run the action with an open writer; repeat the action after WriterFenced.

        ``action`` must read its input on each call. Raises the errors of the action, and
        WriterFenced after the last attempt.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(WriterFenced),
            stop=stop_after_attempt(FENCED_TRIES_MAX),
            wait=wait_random(0, FENCED_PAUSE_S_MAX),
            reraise=True,
        )
        try:
            return await attempts(self._write_once, action)
        except WriterFenced:
            name = writer_name(self.actor)
            raise WriterFenced(
                f"other runs of orbctl keep writing as {name}",
                subject=name,
                remedy="wait until they end, then run the command again",
            ) from None

    async def _write_once(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        writer = Writer(self.store, self.keys, writer_name(self.actor), now_ms=self.now_ms)
        try:
            await writer.open()
            return await action(writer)
        finally:
            await writer.close()

    async def read(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run a long read; repeat it after Compacted. Raises Compacted after the last attempt."""

        async def read_once() -> T:  # tenacity awaits coroutine functions, not lambdas
            return await action()

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Compacted),
            stop=stop_after_attempt(COMPACTED_TRIES_MAX),
            reraise=True,
        )
        return await attempts(read_once)

    def configurator(self, writer: Writer) -> Configurator:
        """A configurator with this writer."""
        return Configurator(self.store, self.keys, writer)

    def releaser(self, writer: Writer) -> Releaser:
        """A releaser with this writer."""
        return Releaser(self.store, self.keys, writer, CoolDown(self.store))


def writer_name(actor: str) -> str:
    """The writer name of an actor."""
    digest = blake2b(actor.encode(), digest_size=2).digest()
    return controller_writer(f"orbctl-{int.from_bytes(digest, 'big') % WRITERS_MAX}")


def run(
    settings: ClusterSettings,
    options: Globals,
    action: Callable[[ClusterSession], Coroutine[Any, Any, Exit | None]],
) -> Exit:
    """Run the action; print an error and return its exit code."""

    async def body() -> Exit:
        session = ClusterSession(settings, options.process, options.output)
        try:
            return await action(session) or Exit.OK
        finally:
            await session.store.close()

    try:
        return asyncio.run(body())
    except OrbweaverError as error:
        return report(error)
    except BrokenPipeError:
        raise  # standard output was closed by its reader; typer ends the run
    except OSError as error:
        return report(OrbweaverError(str(error)))
