"""Runs orbctl and nodes on a cluster in memory, with a clock that a test sets.

``orbctl`` runs in this process through its real entry point.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from core.allocation.refusal_recorder import RefusalRecorder
from core.domain.events import Cause
from core.errors import AllocationError
from core.eventstore.codec import POOL_CODEC
from core.eventstore.etcd import EtcdSettings
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Get, KeyValueStore, Put
from ops.cli import spiderpoolctl
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from tests.support.faulty_store import UnclosedMemoryStore
from tests.support.node_harness import NodeHarness, pod

CLUSTER_NAME: Final = "default"
START_MS: Final = 1_767_268_800_000
"""2026-01-01 12:00:00 UTC."""

Program = Callable[[Sequence[str], ProcessContext], int]
PROGRAMS: Final[dict[str, Program]] = {"orbctl": run, "spiderpoolctl": spiderpoolctl.run}

_DURATION: Final = re.compile(r"(\d+)(s|m|h|d)\Z")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LATENCY: Final = re.compile(r"\d+\.\d ms")


class CommandResult(NamedTuple):
    """The result of one run. ``shown``: both streams, interleaved as on a terminal."""

    code: int
    out: str
    err: str
    shown: str


class _Stream(io.StringIO):
    def __init__(self, terminal: io.StringIO) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, text: str) -> int:
        self._terminal.write(text)
        return super().write(text)


class OrbctlHarness:
    """The cluster, its clock, and the environment of orbctl's user."""

    def __init__(self, archive: Path) -> None:
        self.now_ms = START_MS
        self.store: KeyValueStore = UnclosedMemoryStore(lambda: self.now_ms / 1000)
        self.archive = archive

    def orbctl(self, *arguments: str, program: Program = run) -> CommandResult:
        process = ProcessContext(
            open_store=self._open, now_ms=lambda: self.now_ms, who=lambda: "ann@desk"
        )
        terminal = io.StringIO()
        out, err = _Stream(terminal), _Stream(terminal)
        with (
            _environment(ORBWEAVER_ARCHIVE_DIR=str(self.archive)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = program(arguments, process)
        return CommandResult(code, out.getvalue(), err.getvalue(), terminal.getvalue())

    def on_node(self, name: str, action: Callable[[NodeHarness], Awaitable[object]]) -> None:

        async def body() -> None:
            node = NodeHarness(self.store, name, cluster=CLUSTER_NAME)
            node.writer._now_ms = lambda: self.now_ms
            async with node:
                await action(node)

        asyncio.run(body())

    def pass_time(self, text: str) -> None:
        """Advance the clock by a duration such as ``90s``, ``5m``, ``2h`` or ``1d``."""
        match = _DURATION.match(text)
        assert match is not None, text
        self.now_ms += int(match[1]) * _SECONDS[match[2]] * 1000

    def type(self, line: str) -> str:
        """Run a line of a transcript (``tests/ops/cli/transcripts``); return the visible output.

        These commands exist only in transcripts: ``wait TIME``, ``add POD NODE``, ``replica POD
        NODE`` (an ADD for a StatefulSet's replica), ``refuse POD NODE POOLS`` (ADDs that fail),
        ``delete POD NODE``, ``lose KEY`` (deletes a state key), ``spoil`` (writes wrong pools).
        """
        program, *words = shlex.split(line)
        match program:
            case "orbctl" | "spiderpoolctl":
                result = self.orbctl(*words, program=PROGRAMS[program])
                shown = result.shown + (f"[exit {result.code}]\n" if result.code else "")
                return _LATENCY.sub("1.0 ms", shown.replace(str(self.archive), "ARCHIVE"))
            case "wait":
                self.pass_time(words[0])
            case "add":
                self.on_node(words[1], lambda node: node.add(pod(words[0], node=words[1])))
            case "refuse":
                self.on_node(words[1], lambda node: _refuse(node, words[0], words[2]))
            case "replica":
                replica = pod(words[0], node=words[1], fixed="statefulset")
                self.on_node(words[1], lambda node: node.add(replica))
            case "delete":
                self.on_node(words[1], lambda node: node.delete(pod(words[0])))
            case "lose":
                asyncio.run(self._delete_key(words[0]))
            case "spoil":
                asyncio.run(self._write_wrong_pools())
            case _:
                raise AssertionError(f"transcripts have no command {program}")
        return ""

    async def _delete_key(self, tail: str) -> None:
        key = f"/orbweaver/v1/{CLUSTER_NAME}/{tail}".encode()
        await self.store.commit([], [Delete(key)])

    async def _write_wrong_pools(self) -> None:
        """Change the gateway of pool ``blue`` and add pool ``stray``, both without an event."""
        keys = Keys(CLUSTER_NAME)
        blue = POOL_CODEC.decode(
            (await self.store.read([Get(keys.pool("blue"))])).ranges[0].kvs[0].value
        )
        pool_without_event = blue._replace(name="stray")
        writes = (
            Put(keys.pool("blue"), POOL_CODEC.encode(blue._replace(gateway="10.6.0.9"))),
            Put(keys.pool("stray"), POOL_CODEC.encode(pool_without_event)),
        )
        await self.store.commit([], writes)

    def _open(self, settings: EtcdSettings) -> KeyValueStore:
        return self.store


async def _refuse(node: NodeHarness, name: str, pools: str) -> None:
    facts = pod(name, node=node.name, annotations={"ipam.spidernet.io/ippool": pools})
    recorder = RefusalRecorder(node.writer)
    for _ in range(3):
        try:
            await node.add(facts)
        except AllocationError as error:
            recorder.note(facts, "eth0", error, Cause("agent"))
            await recorder.write_due()
    await recorder.close()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set these variables and unset all others that begin with ``ORBWEAVER_``."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("ORBWEAVER_"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
