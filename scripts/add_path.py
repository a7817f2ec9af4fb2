"""Measures the path of one ADD through an agent: module switches and stack frames.

.venv/bin/python -m scripts.add_path

The path has the calls with ``SERVE`` on their stack, so no calls of other tasks. A module switch is
a call from a product function to a function in another module.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

from core.eventstore.memory_store import MemoryStore
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.tidy.sources import PRODUCT_PACKAGES, PROJECT_ROOT

SERVE: Final = "serve_frame"
"""The agent's function that serves a connection to its socket."""

ALLOCATE: Final = ("core.allocation.allocator", "allocate")

Function = tuple[str, str]
"""(module, function)."""


class AddPath(NamedTuple):
    """The path of one ADD.

    ``calls``, in the order of the calls: (caller, callee) -> the number of product functions on the
    stack from ``SERVE`` to the callee.
    """

    calls: dict[tuple[Function, Function], int]

    @property
    def switches(self) -> list[tuple[Function, Function]]:
        return [(caller, callee) for caller, callee in self.calls if caller[0] != callee[0]]

    @property
    def frames_to_the_allocator(self) -> int:
        """The number of stack frames, ``SERVE`` and ``ALLOCATE`` included."""
        return next(frames for (_, callee), frames in self.calls.items() if callee == ALLOCATE)


def measure_add() -> AddPath:
    """Return the path of a second ADD, because the first ADD imports modules and fills caches."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_measure(Path(directory)))


def product_module(frame: FrameType) -> str | None:
    """The product module of a stack frame; None for other code."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(PROJECT_ROOT):
        return None
    parts = path.relative_to(PROJECT_ROOT).with_suffix("").parts
    return ".".join(parts) if parts[0] in PRODUCT_PACKAGES else None


async def _measure(directory: Path) -> AddPath:
    settings = Settings(
        "node-1",
        socket_path=str(directory / "agent.sock"),
        health_port=0,
        metrics_port=0,
        plugin_log_path=str(directory / "plugin.log"),
        announce_addresses=False,
    )
    async with running(settings, MemoryStore()) as agent:
        await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
        await agent.add("first")
        return await _trace_second_add(agent)


async def _trace_second_add(agent: AgentHarness) -> AddPath:
    recorder = _Recorder()
    sys.setprofile(recorder.on_event)
    try:
        await agent.add("second")
    finally:
        sys.setprofile(None)
    return AddPath(recorder.calls)


class _Recorder:
    def __init__(self) -> None:
        self.calls: dict[tuple[Function, Function], int] = {}
        self._serving: FrameType | None = None

    def on_event(self, frame: FrameType, event: str, _: object) -> None:
        """The hook of ``sys.setprofile``."""
        module = product_module(frame) if event == "call" else None
        if module is None:
            return
        if self._serving is None and frame.f_code.co_name == SERVE:
            self._serving = frame
        if self._serving is None or frame is self._serving:
            return
        callers = _callers(frame, self._serving)
        if callers:
            pair = callers[0], (module, frame.f_code.co_name)
            self.calls.setdefault(pair, len(callers) + 1)


def _callers(frame: FrameType, outermost: FrameType) -> list[Function]:
    """The product functions that called ``frame``, innermost first, up to ``outermost``.

    Empty if ``outermost`` is not on the stack.
    """
    callers: list[Function] = []
    current: FrameType | None = frame.f_back
    while current is not None:
        module = product_module(current)
        if module is not None:
            callers.append((module, current.f_code.co_name))
        if current is outermost:
            return callers
        current = current.f_back
    return []


def main() -> None:
    """Print the module switches and the two measures."""
    path = measure_add()
    for caller, callee in path.switches:
        print(f"{'.'.join(caller)} -> {'.'.join(callee)}")
    print(f"{len(path.switches):6}  module switches of an ADD")
    frames = path.frames_to_the_allocator
    print(f"{frames:6}  stack frames from the socket's handler to the allocator")


if __name__ == "__main__":
    main()
