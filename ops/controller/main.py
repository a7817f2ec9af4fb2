"""The daemon ``orbweaver-controller``: settings, event loop, signals, exit codes.

Without a command it serves; the commands of ``ops/controller/chores.py`` do one thing and end.
Exit codes: 0 ended on a signal, 1 a failure that no retry helps, 2 settings that cannot be used,
4 a task ended and used up its restarts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.errors import BadInput, OrbweaverError, TaskEnded
from core.supervision import EXIT_TASK_ENDED
from core.teardown import Teardown
from nodeagent.doors.connections import raise_open_files_limit
from nodeagent.settings.environment import KUBECONFIG
from nodeagent.settings.loading import CONF_PATH
from nodeagent.telemetry.logs import set_up_logging
from ops.controller import chores
from ops.controller.settings import (
    TLS_CERTIFICATE,
    TLS_KEY,
    ControllerSettings,
    load_settings,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2

_log: Final = logging.getLogger(__name__)


def run(
    context: typer.Context,
    config_path: Annotated[str, typer.Option(help="The file conf.yml.")] = CONF_PATH,
    kubeconfig: Annotated[
        str, typer.Option(envvar=KUBECONFIG, help="Translate the custom resources of this cluster.")
    ] = "",
    tls_server_cert: Annotated[
        str, typer.Option(envvar=TLS_CERTIFICATE, help="Certificate of the webhooks, a PEM file.")
    ] = "",
    tls_server_key: Annotated[
        str, typer.Option(envvar=TLS_KEY, help="Its key; without both there are no webhooks.")
    ] = "",
) -> None:
    """Keep views, metrics and the archive up to date until told to stop."""
    if context.invoked_subcommand is not None:
        return
    set_up_logging("info")
    try:
        said = {KUBECONFIG: kubeconfig, TLS_CERTIFICATE: tls_server_cert, TLS_KEY: tls_server_key}
        settings = load_settings(config_path, {**os.environ, **said})
        tracers = _tracers(settings)
    except BadInput as error:
        _log.critical("settings: %s", error, extra={"fields": {"key": error.subject}})
        raise typer.Exit(EXIT_SETTINGS) from None
    set_up_logging(settings.log_level)
    code = asyncio.run(_serve(settings, tracers))
    if tracers is not None:
        tracers.shutdown()
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the console script."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(run)
    for chore in (
        chores.clean,
        chores.make_defaults,
        chores.etcd_certificates,
        chores.etcd_access,
        chores.copy_cni,
        chores.shutdown,
    ):
        app.command()(chore)
    app()


def _tracers(settings: ControllerSettings) -> TracerProvider | None:
    if not settings.otlp_endpoint:
        return None
    from ops.controller.tracing import exporting_to

    return exporting_to(settings.otlp_endpoint, settings.name)


async def _serve(settings: ControllerSettings, tracers: TracerProvider | None) -> int:
    from core.store.etcd import EtcdStore
    from ops.controller.controller import Controller
    from ops.kubernetes.watching.hosting import watch_of

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    raise_open_files_limit()
    opened = Teardown()
    failures: list[str] = opened.failures
    try:
        store = EtcdStore(settings.cluster.etcd)
        opened.push("the store", store.close)
        cluster = await watch_of(settings.kubernetes, settings.reclaim)
        if cluster is not None:
            opened.push("the API server", cluster.close)
        controller = Controller(settings, store, tracers, cluster)
        failures = controller.stop_failures
        await controller.run(stop)
    except TaskEnded as error:
        _log.critical("cannot go on: %s", error)
        return EXIT_TASK_ENDED
    except (OrbweaverError, OSError) as error:
        _log.critical("cannot go on: %s", error)
        return EXIT_FAILED
    finally:
        await opened.close()
    return EXIT_FAILED if failures else EXIT_OK


if __name__ == "__main__":
    main()
