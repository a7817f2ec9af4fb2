"""Makes the start of a run cheap, which every worker repeats, and what the tests start.

The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import Final

import pytest

from core.eventstore.garbage_collection import gc_paused

GO_HEAP_GROWTH_PERCENT: Final = "400"
"""etcd, Kubernetes and containerd collect garbage when the heap has grown by this; default 100.

It takes a fifth of an API server's CPU time away, for 150 MB.
"""


def start_go_programs_with_large_heaps() -> None:
    """Set the variable that the runtime of Go reads; all programs that tests start inherit it."""
    os.environ.setdefault("GOGC", GO_HEAP_GROWTH_PERCENT)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without the cycle collector, which afterwards skips what they made.

    Modules and tests are a million objects that live until the end of the run.
    """
    with gc_paused():
        collected = yield
        gc.freeze()
    return collected
