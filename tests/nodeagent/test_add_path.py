"""An ADD passes few functions from the socket to the allocator, because each takes time."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from core.allocation.add_request import AddRequest
from core.domain.claims import claim_decisions
from tests.support.agent_harness import AgentHarness

FRAMES_MAX = 8


async def test_an_add_reaches_the_allocator_in_few_frames_with_one_request_object(
    agent: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[FrameType] = []

    def record_path(*arguments: Any) -> Any:
        frame = sys._getframe(1)
        while "/asyncio/" not in frame.f_code.co_filename and frame.f_back is not None:
            frames.insert(0, frame)
            frame = frame.f_back
        return claim_decisions.decide_add(*arguments)

    monkeypatch.setattr("core.allocation.allocator.decide_add", record_path)
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    # The last frame is a helper of ``allocate``.
    names = [frame.f_code.co_name for frame in frames]
    assert (names[0], names[-2]) == ("serve_frame", "allocate")
    assert len(names[:-1]) <= FRAMES_MAX
    assert len(set(names)) == len(names)
    requests = {
        id(value)
        for frame in frames
        for value in frame.f_locals.values()
        if isinstance(value, AddRequest)
    }
    assert len(requests) == 1
