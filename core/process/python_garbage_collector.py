"""Settings of Python's garbage collector for work that creates many objects and no cycles.

``gc_paused``: decoding a large state creates hundreds of thousands of objects. The collector would
run many times and double the decoding time. The pause lasts some seconds at most.

``raise_gc_threshold``: at Python's default threshold, the collector would run for every segment of
a replay and take a sixth of the replay's time. The agent and ``orbctl`` use
``COLLECT_AFTER_OBJECTS``. Controllers use half of this threshold, because API responses leave
cycles: the full threshold would cost a fifth more memory.

``freeze_current_objects``: a full collection traverses some 50,000 objects of imported modules,
which blocks the event loop for 30 to 80 ms and frees nothing.

``prepare_short_run``: the raised threshold and no final collection, for programs that end soon.

``skip_final_collection``: when a process exits, Python collects all objects, which the kernel
would free anyway. This collection took a quarter of the CPU time of ``orbctl status``.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

COLLECT_AFTER_OBJECTS: Final = 20_000
"""New container objects after which the collector runs; Python's default is 700."""

CONTROLLER_COLLECT_AFTER_OBJECTS: Final = 10_000
"""The threshold of a controller. A lower threshold costs CPU time and saves no memory."""


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the collector inside the block; blocks may be nested."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def freeze_current_objects() -> None:
    """Exclude all current objects from collection. Call once, after the start of a process.

    A frozen object is freed when nothing refers to it, but not if it is part of a cycle.
    """
    gc.collect()
    gc.freeze()


def raise_gc_threshold(after_objects: int = COLLECT_AFTER_OBJECTS) -> None:
    """Set the collector's threshold for the whole process."""
    gc.set_threshold(after_objects)


def skip_final_collection() -> None:
    """Make Python skip its garbage collection at the exit of the process."""
    atexit.register(gc.freeze)


def prepare_short_run() -> None:
    """Let the collector run seldom, and not at the exit: for a program that ends soon."""
    raise_gc_threshold()
    skip_final_collection()
