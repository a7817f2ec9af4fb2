"""The cycle collector, kept off work that makes many values and no cycles.

Decoding a large state makes hundreds of thousands of values and drops none, which the collector
takes for a reason to run over and over: it doubles the time. What is paused here lasts seconds.
Folding a log, values come and go by the hundred, and at Python's default every segment brings it: a
sixth of a replay's time. ``collect_seldom`` spares the agent and ``orbctl`` that. Controllers do
not ask for it: an API server's answers leave cycles, which would take a fifth more memory. What
they do is ``freeze_modules``: a full collection looks at some 50,000 objects of imported modules,
which takes 30 to 80 ms of the event loop and finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

COLLECT_AFTER_OBJECTS: Final = 20_000
"""New container objects before the collector looks at the youngest; Python's default is 700."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cycles are collected inside. It may be nested, and others may run in between."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def freeze_modules() -> None:
    """Take all that there is now out of the collector's sight; for a process that has begun.

    What is frozen still goes when nothing refers to it, but never as a part of a cycle.
    """
    gc.collect()
    gc.freeze()


def collect_seldom() -> None:
    """Set the collector of this process to ``COLLECT_AFTER_OBJECTS``; for those who own it."""
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
