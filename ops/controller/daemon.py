"""The controller as a daemon.

Exit codes: 0 stopped by a signal, 1 a failure that no retry resolves, 2 unusable settings, 4 a task
used up its restarts.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from core.errors import BadInput, OrbweaverError, TaskEnded
from core.eventstore.etcd import EtcdStore
from core.process.concurrency import loop_factory
from core.process.connections import raise_open_files_limit
from core.process.environment import KUBECONFIG_VARIABLE
from core.process.logs import set_up_logging
from core.process.python_garbage_collector import (
    CONTROLLER_COLLECT_AFTER_OBJECTS,
    freeze_current_objects,
    raise_gc_threshold,
)
from core.process.supervision import EXIT_TASK_ENDED
from core.process.teardown import Teardown
from core.process.tracing import set_tracer
from core.settings.shared_settings import add_daemon_options, conf_path
from ops.controller.controller import Controller
from ops.controller.main import HOOK_COMMANDS, PROGRAM
from ops.controller.settings import (
    TLS_CERTIFICATE,
    TLS_KEY,
    ControllerSettings,
    load_settings,
)
from ops.kubernetes.watches.cluster_watch import watch_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from core.process.spans import SdkTracer

MMAP_THRESHOLD_BYTES: Final = 128 * 1024
"""glibc's initial threshold: freed buffers of this size or more return to the kernel at once."""

_M_MMAP_THRESHOLD: Final = -3  # mallopt(3)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2

SERVICE_NAME: Final = "orbweaver-controller"

_log: Final = logging.getLogger(__name__)


def run(config_path: str, options: Mapping[str, str]) -> int:
    """Run the controller until a signal; return the exit code.

    ``options`` override the environment variables of the same names.
    """
    set_up_logging("info")
    try:
        settings = load_settings(config_path, {**os.environ, **options})
        tracer = _tracer(settings)
    except BadInput as error:
        _log.critical("settings: %s", error, extra={"fields": {"key": error.subject}})
        return EXIT_SETTINGS
    set_up_logging(settings.log_level)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        code = runner.run(_serve(settings, tracer.provider if tracer is not None else None))
    if tracer is not None:
        tracer.close()
    return code


def main() -> None:
    """Run the daemon and exit the process."""
    options = _parser().parse_args()
    variables = {
        KUBECONFIG_VARIABLE: options.kubeconfig,
        TLS_CERTIFICATE: options.tls_server_cert,
        TLS_KEY: options.tls_server_key,
    }
    sys.exit(run(conf_path(options), variables))


def _parser() -> argparse.ArgumentParser:
    """Without typer, which would use memory while the daemon runs."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        allow_abbrev=False,
        description="Keep reports, metrics and the archive up to date until a signal.",
        epilog=f"Commands that do one task and exit: {', '.join(HOOK_COMMANDS)}. "
        "See COMMAND --help.",
    )
    add_daemon_options(parser)
    for option, variable, text in (
        ("--kubeconfig", KUBECONFIG_VARIABLE, "Translate the custom resources of this cluster."),
        ("--tls-server-cert", TLS_CERTIFICATE, "Certificate of the webhooks, a PEM file."),
        ("--tls-server-key", TLS_KEY, "Key of this certificate, a PEM file."),
    ):
        default = os.environ.get(variable, "")
        parser.add_argument(
            option, default=default, help=f"{text} By default the value of {variable}."
        )
    return parser


def _tracer(settings: ControllerSettings) -> SdkTracer | None:
    """None without an endpoint. Raises BadInput."""
    if not settings.otlp_endpoint:
        return None
    from core.process.spans import otlp_tracer  # noqa: PLC0415  # needs the extra otlp

    tracer = otlp_tracer(settings.otlp_endpoint, SERVICE_NAME, settings.name)
    set_tracer(tracer)
    return tracer


def _fix_malloc_threshold() -> None:
    """Save a megabyte: the first freed TLS buffer (256 KiB) would raise glibc's threshold."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # not in musl
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


async def _serve(settings: ControllerSettings, tracers: TracerProvider | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    raise_open_files_limit()
    _fix_malloc_threshold()
    teardown = Teardown()
    failures: list[str] = teardown.failures
    try:
        store = EtcdStore(settings.cluster.etcd)
        teardown.push("the store", store.close)
        cluster = await watch_of(settings.kubernetes, settings.reclaim)
        if cluster is not None:
            teardown.push("the API client", cluster.close)
        controller = Controller(settings, store, tracers, cluster)
        failures = controller.stop_failures  # ``run`` closes both parts above
        # Imported objects live as long as the process.
        freeze_current_objects()
        raise_gc_threshold(CONTROLLER_COLLECT_AFTER_OBJECTS)
        await controller.run(stop)
    except TaskEnded as error:
        _log.critical("the controller stops: %s", error)
        return EXIT_TASK_ENDED
    except (OrbweaverError, OSError) as error:
        _log.critical("the controller stops: %s", error)
        return EXIT_FAILED
    finally:
        await teardown.close()
    return EXIT_FAILED if failures else EXIT_OK
