"""Runs a worker of the workflow engine until standard input ends.

Parameters (the first line of input): ``endpoint`` (of etcd), ``name`` (of the worker). The program
prints ``ready`` when the worker runs, and no report.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bench.rig.lab import CLUSTER
from bench.rig.sample_workflows import SAMPLE_REGISTRY
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.process.concurrency import loop_factory
from core.process.python_garbage_collector import (
    CONTROLLER_COLLECT_AFTER_OBJECTS,
    freeze_current_objects,
    raise_gc_threshold,
)
from workflows.engine.worker.worker import Worker


async def work(parameters: dict[str, Any]) -> None:
    """Run the worker until input ends; Python's garbage collector is set as in a controller."""
    raise_gc_threshold(CONTROLLER_COLLECT_AFTER_OBJECTS)
    freeze_current_objects()
    store = EtcdStore(EtcdSettings((parameters["endpoint"],)))
    async with Worker(store, Keys(CLUSTER), SAMPLE_REGISTRY, name=parameters["name"]):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await store.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work(json.loads(sys.stdin.readline())))
