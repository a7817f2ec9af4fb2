"""The daemon ``orbweaver-agent``: settings, event loop, signals, exit codes.

Exit codes:

    0   ended by a signal
    1   a failure
    2   invalid settings
    3   another process writes events under this node's name
    4   a supervised task ended and was not restarted
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import Final

from core.errors import BadInput, OrbweaverError, TaskEnded, WriterFenced
from core.eventstore.etcd import EtcdStore
from core.process.concurrency import loop_factory, until_first
from core.process.connections import raise_open_files_limit
from core.process.logs import set_up_logging
from core.process.python_garbage_collector import (
    freeze_current_objects,
    raise_gc_threshold,
    skip_final_collection,
)
from core.process.supervision import EXIT_TASK_ENDED, Supervisor
from core.process.teardown import Teardown
from core.process.tracing import Tracer, set_tracer
from core.settings.shared_settings import add_daemon_options, conf_path
from nodeagent.agent import Agent
from nodeagent.composition import AgentSources
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.settings.agent_settings import Settings
from nodeagent.settings.settings_loader import load_settings

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_FENCED: Final = 3

SERVICE_NAME: Final = "orbweaver-agent"

_log: Final = logging.getLogger(__name__)


def run(config_path: str) -> int:
    """Serve CNI calls on this node until a signal. Returns the exit code."""
    set_up_logging("info")
    try:
        settings = load_settings(config_path, os.environ)
        set_tracer(_tracer(settings))
    except BadInput as error:
        _log.critical("settings: %s", error, extra={"fields": {"key": error.subject}})
        return EXIT_SETTINGS
    set_up_logging(settings.log_level)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(settings))


def main() -> None:
    """Entry point of the console script."""
    skip_final_collection()
    # argparse, because the modules of typer would stay in memory.
    parser = argparse.ArgumentParser(
        "orbweaver-agent", description="Serve CNI calls on this node until stopped by a signal."
    )
    add_daemon_options(parser)
    sys.exit(run(conf_path(parser.parse_args())))


def _tracer(settings: Settings) -> Tracer | None:
    if not settings.otlp_endpoint:
        return None
    from core.process.spans import otlp_tracer  # noqa: PLC0415  # only if tracing is on

    node = settings.node_name
    return otlp_tracer(settings.otlp_endpoint, SERVICE_NAME, node, {"k8s.node.name": node})


async def _serve(settings: Settings) -> int:
    raise_open_files_limit()
    teardown = Teardown()
    try:
        code = await _run(settings, teardown)
    except WriterFenced as error:
        _log.critical("stopped: another process writes events under this node's name: %s", error)
        code = EXIT_FENCED
    except TaskEnded as error:
        _log.critical("stopped: %s", error)
        code = EXIT_TASK_ENDED
    except (OrbweaverError, OSError) as error:
        _log.critical("stopped: %s", error)
        code = EXIT_FAILED
    finally:
        await teardown.close()
    return EXIT_FAILED if teardown.failures and code == EXIT_OK else code


async def _run(settings: Settings, teardown: Teardown) -> int:
    store = EtcdStore(settings.etcd)
    teardown.push("the store", store.close)
    supervisor = Supervisor()
    teardown.push("supervised tasks", supervisor.close)
    try:
        cluster = await connect_cluster(settings, supervisor)
    except BadInput as error:
        _log.critical("settings: %s", error, extra={"fields": {"key": error.subject}})
        return EXIT_SETTINGS
    if cluster is not None:
        teardown.push("the API client", cluster.close)
    sources = AgentSources(supervisor=supervisor)
    if cluster is not None:
        sources = AgentSources(
            facts=cluster.facts,
            networks=cluster.networks,
            coordinator=cluster.coordinator,
            supervisor=supervisor,
            sriov=cluster.sriov,
            server=cluster.server,
        )
    rdma_pods = cluster.rdma_pods if cluster is not None else None
    agent = Agent(
        settings,
        store,
        sources=sources,
        services=cluster.services if cluster is not None else None,
        rdma_pods=rdma_pods.by_address if rdma_pods is not None else None,
    )
    teardown.push("the agent", agent.stop)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, agent.ended.set)
    await until_first(agent.ended.wait(), supervisor.wait_for_failure(), _start_and_serve(agent))
    if agent.parts.health.fenced is not None:
        raise agent.parts.health.fenced
    return EXIT_OK


async def _start_and_serve(agent: Agent) -> None:
    await agent.start()
    # Without these two calls, garbage collections take a tenth of the CPU time. ADDs create no
    # cycles to collect.
    freeze_current_objects()
    raise_gc_threshold()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
