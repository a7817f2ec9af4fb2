"""One run of orbctl: the connection to one cluster, and a writer when something is to be written.

Writers leave a head key for ever, so orbctl writes under one of ``WRITERS_MAX`` names, chosen by
user and host; who it was is in every event (``Cause.actor``). Two runs that meet under one name
fence each other: the one that lost has written nothing, and does its step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from typing import Any, Final, TypeVar

from core.allocation.cooldown import CoolDown
from core.allocation.releaser import Releaser
from core.archive.files import LocalFiles
from core.configuration.configurator import Configurator
from core.domain.events import Cause
from core.errors import Compacted, OrbweaverError, WriterFenced
from core.eventstore.etcd import EtcdStore
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from ops.cli.exits import Exit, report
from ops.cli.global_options import ProcessContext
from ops.settings import ClusterSettings

T = TypeVar("T")

WRITERS_MAX: Final = 16
"""Names orbctl writes under: Controller.orbctl-0 to Controller.orbctl-15."""

READ_S_MAX: Final = 4.0
"""A person waits for an etcd that is away; an election of its leader fits in."""

FENCED_TRIES_MAX: Final = 6
FENCED_PAUSE_S_MAX: Final = 0.4
COMPACTED_TRIES_MAX: Final = 3


class ClusterSession:
    """The cluster of this run. Made inside the event loop; closed by ``run``."""

    def __init__(self, settings: ClusterSettings, process: ProcessContext) -> None:
        self.settings = settings
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
        """How this run signs its events."""
        return Cause(self.actor)

    async def write(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        """Do one step with an open writer; again when another run has taken the name over.

        ``action`` decides on what it reads itself, so that doing it again is right.
        Raises what the action raises, WriterFenced after ``FENCED_TRIES_MAX`` tries.
        """
        for tries_left in reversed(range(FENCED_TRIES_MAX)):
            name = writer_name(self.actor)
            writer = Writer(self.store, self.keys, name, now_ms=self.now_ms)
            try:
                await writer.open()
                return await action(writer)
            except WriterFenced:
                if not tries_left:
                    raise WriterFenced(
                        f"other runs of orbctl write under the name {writer.name} all the time",
                        subject=writer.name,
                        remedy="let them end, then run this again",
                    ) from None
                await asyncio.sleep(random.uniform(0, FENCED_PAUSE_S_MAX))  # noqa: S311  # a pause
            finally:
                await writer.close()
        raise AssertionError("unreachable: the last try raises")

    async def read(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do a long read; again when etcd has compacted the revision under it."""
        for _ in range(COMPACTED_TRIES_MAX - 1):
            with contextlib.suppress(Compacted):
                return await action()
        return await action()

    def configurator(self, writer: Writer) -> Configurator:
        """Commands through this writer."""
        return Configurator(self.store, self.keys, writer)

    def releaser(self, writer: Writer) -> Releaser:
        """Releases through this writer."""
        return Releaser(self.store, self.keys, writer, CoolDown(self.store))


def writer_name(actor: str) -> str:
    """One of the names orbctl writes under."""
    digest = blake2b(actor.encode(), digest_size=2).digest()
    return controller_writer(f"orbctl-{int.from_bytes(digest, 'big') % WRITERS_MAX}")


def run(
    settings: ClusterSettings,
    process: ProcessContext,
    action: Callable[[ClusterSession], Coroutine[Any, Any, Exit]],
) -> Exit:
    """Open a session, do it, close; errors are told and become exit codes."""

    async def body() -> Exit:
        session = ClusterSession(settings, process)
        try:
            return await action(session)
        finally:
            await session.store.close()

    try:
        return asyncio.run(body())
    except OrbweaverError as error:
        return report(error)
    except BrokenPipeError:
        raise  # whoever reads standard output has seen enough; the parser ends the run quietly
    except OSError as error:
        return report(OrbweaverError(str(error)))
