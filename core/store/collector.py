"""The cycle collector, kept off work that makes many values and no cycles.

Decoding a large state makes hundreds of thousands of values and drops none, which the collector
takes for a reason to run over and over: it doubles the time. What is paused here lasts seconds.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
