"""The golden scenarios with an execution for every Pod give the same outputs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.domain.reclaim.decision_table import ReclaimDeadline
from tests.core.domain.reclaim.scripted_cluster import ObservedPod
from tests.core.domain.reclaim.test_reclaim_scenarios import SCRIPTS, run_script
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from workflows.jobs.reclaim.pod import NOTHING_LEFT, DeadlineCause, ReclaimResult

FORGETFUL = "> restart\n"
"""What such a script shows lost is not lost any more: see ``test_reclaim_pod_execution``."""

PLAYED = [script for script in SCRIPTS if FORGETFUL not in script.read_text()]


class PodReclaimHarness(ReclaimJobHarness):
    """Runs scripts: ``tick`` prints the results of executions that ended meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.watching = True
        self._news: list[ObservedPod] = []
        self._told: set[str] = set()
        self._deferred: list[tuple[ReclaimDeadline, DeadlineCause]] = []

    async def play(self, line: str) -> str:
        if not self.is_prepared:
            await self.prepare()
        answer = await super().play(line)
        news, self._news = self._news, []
        for one in news:
            await self.tell(one)
        return answer

    async def setting(self, **fields: str) -> str:
        answer = await super().setting(**fields)
        await self.take_settings()
        return answer

    async def _begin(self, one: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()) -> None:
        """Executions continue only in ``tick``."""
        self._deferred.append((one, origin))

    async def tick(self, text: str) -> str:
        deferred, self._deferred = self._deferred, []
        for one, origin in deferred:
            await super()._begin(one, origin)
        said: list[str] = []
        before_s = self.cluster.now_s
        for now_s in self.cluster.advance(text):
            await self.environment.advance(now_s - before_s)
            before_s = now_s
            said += [line for each in self.begun.items() if (line := await self._ended(*each))]
        return "\n".join(said)

    async def _ended(self, name: str, one: ReclaimDeadline) -> str:
        if name in self._told or await self.environment.is_open(name):
            return ""
        self._told.add(name)
        found: ReclaimResult = await self.environment.handle(name).result()
        path = "/".join(one.endpoint)
        if found.released:
            self.released |= set(found.released)
            return f"released {' '.join(found.released)} of {path}, {found.why}"
        if found.why == NOTHING_LEFT:
            return ""
        endpoint = (await (await self.agent("operator")).read_ledger()).endpoints[one.endpoint]
        addresses = [address for address, _ in endpoint.addresses()]
        self.kept |= dict.fromkeys(addresses, found.why)
        return f"kept {' '.join(addresses) or '-'} of {path}: {found.why}"

    def _observe(self, event: ObservedPod) -> None:
        if self.watching:
            self._news.append(event)

    async def _start_deadline(self, deadline: ReclaimDeadline) -> None:
        await self._begin(deadline)


@pytest.mark.parametrize("script", PLAYED, ids=lambda script: script.stem)
def test_a_scenario_goes_as_written_with_an_execution_for_every_pod(script: Path) -> None:
    expected = script.read_text()

    assert asyncio.run(run_script(expected, PodReclaimHarness)) == expected
