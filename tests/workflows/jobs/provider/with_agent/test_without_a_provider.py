"""An agent without a provider neither loads nor uses the code for bindings."""

from __future__ import annotations

import subprocess
import sys

from core.allocation.releaser import Releaser
from core.eventstore.memory_store import MemoryStore
from nodeagent.handlers.pool_wait import WaitingAllocator
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import running

BINDING_MODULES = (
    "nodeagent.handlers.provider_binding",
    "core.allocation.handover",
    "core.allocation.bindings",
)
PROGRAM = f"""
import sys
import nodeagent.main
print([name for name in {BINDING_MODULES!r} if name in sys.modules])
"""


def test_an_agent_without_a_provider_does_not_load_the_binding_modules() -> None:
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )

    assert completed.stdout == "[]\n"


async def test_an_agent_without_a_provider_uses_the_plain_allocator_and_releaser(
    settings: Settings,
) -> None:
    async with running(settings, MemoryStore()) as node:
        handlers = node.process.parts.handlers

        assert type(getattr(handlers.add._allocate, "__self__", None)) is WaitingAllocator
        assert type(handlers.delete._releaser) is Releaser
