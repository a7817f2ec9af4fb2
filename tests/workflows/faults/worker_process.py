"""A worker process that kills itself with SIGKILL at a chosen commit.

    python -m tests.workflows.faults.worker_process ENDPOINT CLUSTER AT MOMENT

MOMENT is ``before`` or ``after``: the process dies before or after its commit number AT.
AT 0 means never.
The process prints "ready" once it owns shards.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Guard, TxnResult, Write
from tests.support.engine_samples import SampleActivities, sample_registry
from workflows.api import activity
from workflows.engine.worker.worker import Worker, WorkerOptions

TTL_S = 2
"""The shortest lease that etcd grants."""


class MortalStore(EtcdStore):
    def __init__(self, endpoint: str, at: int, moment: str) -> None:
        super().__init__(EtcdSettings((endpoint,)))
        self._at = at
        self._moment = moment
        self._commits = 0

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        self._commits += 1
        if (self._commits, self._moment) == (self._at, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = await super().commit(guards, writes, otherwise)
        if (self._commits, self._moment) == (self._at, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@activity.defn()
def deadly() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def work(endpoint: str, cluster: str, at: int, moment: str) -> None:
    store = MortalStore(endpoint, at, moment)
    registry = sample_registry(SampleActivities(), deadly)
    options = WorkerOptions(ttl_s=TTL_S)
    async with Worker(store, Keys(cluster), registry, name="process", options=options):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    _, endpoint, cluster, at, moment = sys.argv
    asyncio.run(work(endpoint, cluster, int(at), moment))
