"""The daemon ``orbweaver-agent``: settings, event loop, signals, exit codes.

Exit codes: 0 ended on a signal, 1 a failure, 2 settings that cannot be used, 3 fenced by another
process of the same node name. Everything else is in ``nodeagent.agent``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from core.errors import BadInput
from core.store.etcd import EtcdStore
from nodeagent.agent import Agent
from nodeagent.settings.loading import CONF_PATH, load_settings
from nodeagent.settings.values import Settings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_FENCED = 3

_log = logging.getLogger(__name__)


def run(
    config_path: Annotated[str, typer.Option(help="conf.yml")] = CONF_PATH,
) -> None:
    """Serve CNI calls on this node until told to stop."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        settings = load_settings(config_path, os.environ)
    except BadInput as error:
        _log.critical("settings: %s: %s", error.subject, error)
        raise typer.Exit(EXIT_SETTINGS) from None
    raise typer.Exit(_run(settings))


def main() -> None:
    """Entry point of the console script."""
    typer.run(run)


def _run(settings: Settings) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415  # where it is not installed, asyncio's own loop serves

        return uvloop.new_event_loop
    return None


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agent = Agent(settings, EtcdStore(settings.etcd))
    await agent.start()
    await stop.wait()
    await agent.stop()
    return EXIT_OK


if __name__ == "__main__":
    main()
