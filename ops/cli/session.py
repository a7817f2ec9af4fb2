"""One run of orbctl: the connection to one cluster, and a writer when something is to be written.

Writers leave a head key for ever, so orbctl writes under one of ``WRITERS_MAX`` names, chosen by
user and host; who it was is in every event (``Cause.actor``). Two runs that meet under one name
fence each other: the one that lost has written nothing, and does its step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from core.errors import OrbweaverError, WriterFenced
from ops.cli.exits import Exit, report
from ops.settings import ClusterSettings

if TYPE_CHECKING:
    from core.allocation.releaser import Releaser
    from core.archive.files import LocalFiles
    from core.configuration.configurator import Configurator
    from core.domain.events import Cause
    from core.eventstore.etcd import EtcdSettings
    from core.eventstore.keys import Keys
    from core.eventstore.kv import KeyValueStore
    from core.eventstore.writer import Writer

T = TypeVar("T")

WRITERS_MAX: Final = 16
"""Names orbctl writes under: Controller.orbctl-0 to Controller.orbctl-15."""

WHO: Final = "ORBWEAVER_WHO"
"""The variable that names user and host, where a run is another one's hand."""

WHO_CHARACTERS_MAX: Final = 128
READ_S_MAX: Final = 4.0
"""A person waits for an etcd that is away; an election of its leader fits in."""

FENCED_TRIES_MAX: Final = 6
FENCED_PAUSE_S_MAX: Final = 0.4
COMPACTED_TRIES_MAX: Final = 3


def _open_etcd(settings: EtcdSettings) -> KeyValueStore:
    from core.eventstore.etcd import EtcdStore

    return EtcdStore(settings)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _who() -> str:
    if told := os.environ.get(WHO, "").strip():
        return told[:WHO_CHARACTERS_MAX]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


class ProcessContext(NamedTuple):
    """What a run takes from outside; tests give their own. ``who``: user and host."""

    open_store: Callable[[EtcdSettings], KeyValueStore] = _open_etcd
    now_ms: Callable[[], int] = _unix_ms
    who: Callable[[], str] = _who


class ClusterSession:
    """The cluster of this run. Made inside the event loop; closed by ``run``."""

    def __init__(self, settings: ClusterSettings, surroundings: ProcessContext) -> None:
        from core.eventstore.keys import Keys

        self.settings = settings
        self.store = surroundings.open_store(settings.etcd._replace(read_deadline_s=READ_S_MAX))
        self.keys: Keys = Keys(settings.cluster)
        self.now_ms = surroundings.now_ms
        self.actor = f"orbctl/{surroundings.who()}"

    @property
    def archive(self) -> LocalFiles:
        """The archive directory."""
        from core.archive.files import LocalFiles

        return LocalFiles(self.settings.archive)

    @property
    def cause(self) -> Cause:
        """How this run signs its events."""
        from core.domain.events import Cause

        return Cause(self.actor)

    async def write(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        """Do one step with an open writer; again when another run has taken the name over.

        ``action`` decides on what it reads itself, so that doing it again is right.
        Raises what the action raises, WriterFenced after ``FENCED_TRIES_MAX`` tries.
        """
        from core.eventstore.writer import Writer

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
        from core.errors import Compacted

        for _ in range(COMPACTED_TRIES_MAX - 1):
            with contextlib.suppress(Compacted):
                return await action()
        return await action()

    def configurator(self, writer: Writer) -> Configurator:
        """Commands through this writer."""
        from core.configuration.configurator import Configurator

        return Configurator(self.store, self.keys, writer)

    def releaser(self, writer: Writer) -> Releaser:
        """Releases through this writer."""
        from core.allocation.cooldown import CoolDown
        from core.allocation.releaser import Releaser

        return Releaser(self.store, self.keys, writer, CoolDown(self.store))


def writer_name(actor: str) -> str:
    """One of the names orbctl writes under."""
    from core.eventstore.keys import controller_writer

    digest = blake2b(actor.encode(), digest_size=2).digest()
    return controller_writer(f"orbctl-{int.from_bytes(digest, 'big') % WRITERS_MAX}")


def run(
    settings: ClusterSettings,
    surroundings: ProcessContext,
    action: Callable[[ClusterSession], Coroutine[Any, Any, Exit]],
) -> Exit:
    """Open a session, do it, close; errors are told and become exit codes."""

    async def body() -> Exit:
        session = ClusterSession(settings, surroundings)
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


def read_text(path: str, stdin: Callable[[], str]) -> str:
    """A file's text, "-" for standard input. Raises BadInput."""
    from core.errors import BadInput

    try:
        return stdin() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}", subject=path) from None
