"""The golden scenarios of reclaim, with an execution for each Pod, print the recorded outputs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.domain.reclaim.decision_table import ReclaimDeadline
from tests.core.domain.reclaim.scripted_cluster import ObservedPod
from tests.core.domain.reclaim.test_reclaim_scenarios import SCENARIO_FILES, run_script
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.jobs.reclaim.pod import NOTHING_LEFT, DeadlineCause, ReclaimResult

RESTART = "> restart\n"
"""Scripts expect that a restart loses the deadlines, but executions keep them."""

SCRIPTS_WITHOUT_RESTART = [script for script in SCENARIO_FILES if RESTART not in script.read_text()]


class PodReclaimHarness(ReclaimJobHarness):
    """Runs scripts. ``tick`` prints the results of the executions that ended."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = True
        self._events: list[ObservedPod] = []
        self._printed: set[str] = set()
        self._deferred: list[tuple[ReclaimDeadline, DeadlineCause]] = []

    async def play(self, line: str) -> str:
        if not self.is_prepared:
            await self.prepare()
        answer = await super().play(line)
        events, self._events = self._events, []
        for event in events:
            await self.report(event)
        return answer

    async def setting(self, **fields: str) -> str:
        answer = await super().setting(**fields)
        await self.take_settings()
        return answer

    async def _start_pod(
        self, deadline: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()
    ) -> None:
        """Defer the start to the next ``tick``."""
        self._deferred.append((deadline, origin))

    async def tick(self, text: str) -> str:
        deferred, self._deferred = self._deferred, []
        for deadline, origin in deferred:
            await super()._start_pod(deadline, origin)
        lines: list[str] = []
        before_s = self.cluster.now_s
        for now_s in self.cluster.advance(text):
            await self.environment.advance(now_s - before_s)
            before_s = now_s
            lines += [
                line
                for started in self.started.items()
                if (line := await self._describe_if_ended(*started))
            ]
        return "\n".join(lines)

    async def _describe_if_ended(self, name: str, deadline: ReclaimDeadline) -> str:
        if name in self._printed or await self.environment.is_open(name):
            return ""
        self._printed.add(name)
        outcome: ReclaimResult = await self.environment.handle(name).result()
        path = "/".join(deadline.endpoint)
        if outcome.released:
            self.released |= set(outcome.released)
            return f"released {' '.join(outcome.released)} of {path}, {outcome.why}"
        if outcome.why == NOTHING_LEFT:
            return ""
        endpoint = (await (await self.agent("operator")).read_ledger()).endpoints[deadline.endpoint]
        addresses = [address for address, _ in endpoint.addresses()]
        self.kept |= dict.fromkeys(addresses, outcome.why)
        return f"kept {' '.join(addresses) or '-'} of {path}: {outcome.why}"

    def _observe(self, event: ObservedPod) -> None:
        if self.watching:
            self._events.append(event)

    async def _start_deadline(self, deadline: ReclaimDeadline) -> None:
        await self._start_pod(deadline)


@pytest.mark.parametrize("script", SCRIPTS_WITHOUT_RESTART, ids=lambda script: script.stem)
def test_a_script_prints_the_recorded_output_if_every_pod_has_an_execution(script: Path) -> None:
    expected = script.read_text()

    assert asyncio.run(run_script(expected, PodReclaimHarness)) == expected
