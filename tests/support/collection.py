"""Saves CPU time in the collection of tests, and in the Go programs that tests start."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import Final

import pytest

from core.process.python_garbage_collector import gc_paused

GO_HEAP_GROWTH_PERCENT: Final = "400"
"""GOGC; 400 instead of 100 saves a fifth of an API server's CPU time for 150 MB of memory."""


def start_go_programs_with_large_heaps() -> None:
    os.environ.setdefault("GOGC", GO_HEAP_GROWTH_PERCENT)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt the collected tests from garbage collection, because they live until the end."""
    with gc_paused():
        result = yield
        gc.freeze()
    return result
