"""Saves CPU time in the collection of tests, which every worker repeats, and in Go programs.

The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import Final

import pytest

from core.process.python_garbage_collector import gc_paused

GO_HEAP_GROWTH_PERCENT: Final = "400"
"""etcd, Kubernetes and containerd collect garbage when the heap has grown by this; default 100.

An API server then needs a fifth less CPU time, and 150 MB more memory.
"""


def start_go_programs_with_large_heaps() -> None:
    """Set the variable that the runtime of Go reads; all programs that tests start inherit it."""
    os.environ.setdefault("GOGC", GO_HEAP_GROWTH_PERCENT)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pause the garbage collector while tests are collected; exclude the existing objects from it.

    These objects, a million for modules and tests, live until the end of the run.
    """
    with gc_paused():
        collected = yield
        gc.freeze()
    return collected
