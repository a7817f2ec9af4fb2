"""The commands of ``orbweaver-controller`` that the chart's hooks run.

Every command logs its changes. Exit codes: 1 for a failure, 2 for unusable settings. Spiderpool's
chart calls ``shutdown`` as its preStop hook.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Final

import typer

from core.domain.validation.common_rules import counted
from core.errors import BadInput, OrbweaverError
from core.eventstore.etcd.access_control import enable_access_control
from core.eventstore.keys import Keys
from core.eventstore.retry_policies import retry_unavailable
from core.eventstore.roles import AGENT_USER, CONTROLLER_USER, roles_of
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.process.environment import EnvironmentVariables
from core.process.logs import set_up_logging
from ops.controller.settings import NAMESPACE_VARIABLE
from ops.kubernetes import cleanup
from ops.kubernetes.certificates.members import SecretNames, make_certificates
from ops.kubernetes.cleanup import InstallationNames
from ops.kubernetes.cni_files import mirror
from ops.kubernetes.default_objects import create_all, read_objects
from ops.kubernetes.settings import LeaseSettings
from ops.settings import cluster_settings

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
ETCD_WAIT_S: Final = 240.0
"""Must be less than the time limit of the chart's Job."""

FOLLOW_S: Final = 2.0
"""The period in which ``copy-cni --follow`` compares files."""

WEBHOOKS_NAME: Final = "spiderpool-controller"
"""The name of both webhook configurations in Spiderpool's chart."""

_log: Final = logging.getLogger(__name__)


def main() -> None:
    """Run the command of the command line."""
    command_line_app()()


def command_line_app() -> typer.Typer:
    """The command-line interface."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for command in (clean, make_defaults, etcd_certificates, etcd_access, copy_cni, shutdown):
        app.command()(command)
    return app


def clean(
    validate: Annotated[
        str, typer.Option(help="The validating webhook configuration.")
    ] = WEBHOOKS_NAME,
    mutating: Annotated[
        str, typer.Option(help="The mutating webhook configuration.")
    ] = WEBHOOKS_NAME,
    secret: Annotated[str, typer.Option(help="The Secret of the webhooks' certificate.")] = "",
    nodes: Annotated[str, typer.Option(help="The DaemonSet that cleans the nodes.")] = "",
) -> None:
    """Remove Orbweaver's webhooks and finalizers, so that objects can be deleted.

    Also deletes the Lease of the controllers, and the Secret of --secret. Custom resources stay.
    """

    async def work(api: Api) -> None:
        namespace = _namespace()
        lease = LeaseSettings(namespace).name
        names = InstallationNames(namespace, lease, mutating, validate, secret, nodes)
        count = await cleanup.clean(api, names)
        _log.info("removed Orbweaver's finalizer from %s", counted(count, "object"))

    _with_api(work)


def make_defaults(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="YAML file of the objects.")
    ],
) -> None:
    """Create the objects of a file, unless they exist. Existing objects are not changed."""

    async def work(api: Api) -> None:
        objects = read_objects(file.read_text("utf-8"), str(file))
        async for body, was_created in create_all(api, objects):
            name = f"{body['kind']}/{body['metadata']['name']}"
            outcome = "was created" if was_created else "exists and was not changed"
            _log.info("%s %s", name, outcome)

    _with_api(work)


def etcd_certificates(
    authority: Annotated[str, typer.Option(help="Secret of the certificate authority.")],
    member: Annotated[str, typer.Option(help="Secret of the members.")],
    agent: Annotated[str, typer.Option(help="Secret of the agents.")],
    controller: Annotated[str, typer.Option(help="Secret of controllers and hooks.")],
    root: Annotated[str, typer.Option(help="Secret of the Job that manages access.")],
    metrics: Annotated[str, typer.Option(help="Secret of the reader of etcd's metrics.")],
    domain: Annotated[str, typer.Option(help="The domain of the members' names.")],
    namespace: Annotated[str, typer.Option(help="The namespace of the Secrets.")],
) -> None:
    """Issue the missing and the due certificates of an embedded etcd."""

    async def work(api: Api) -> None:
        names = SecretNames(authority, member, agent, controller, root, metrics, domain)
        written = await make_certificates(api, namespace, names)
        _log.info("wrote %s", counted(len(written), "Secret"))

    _with_api(work)


def etcd_access(
    agent_user: Annotated[
        str, typer.Option(help="Common name of the agents' certificate.")
    ] = AGENT_USER,
    controller_user: Annotated[
        str, typer.Option(help="Common name of the controllers' certificate.")
    ] = CONTROLLER_USER,
) -> None:
    """Give agents and controllers their roles in etcd, and require authentication.

    The ORBWEAVER_ETCD_* variables must connect to etcd with the certificate of the user root.
    """
    set_up_logging("info")

    async def work() -> None:
        settings = cluster_settings(os.environ)
        roles = roles_of(Keys(settings.cluster), agent_user, controller_user)
        async for attempt in retry_unavailable(ETCD_WAIT_S):
            with attempt:
                await enable_access_control(settings.etcd, roles)

    _run(work())


def copy_cni(
    source: Annotated[Path, typer.Argument(help="The node's directory.")],
    target: Annotated[Path, typer.Argument(help="The directory of the copies.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Keep copying until a signal.")] = False,
) -> None:
    """Copy the node's CNI configurations for a controller that is not root."""
    set_up_logging("info")
    target.mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()
    if follow:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    while True:
        try:
            for name in mirror(source, target):
                _log.info("copied %s", name)
        except (BadInput, OSError) as error:
            _log.warning("CNI configurations not copied: %s", error)
            if not follow:
                raise typer.Exit(EXIT_FAILED) from None
        if not follow or stopped.wait(FOLLOW_S):
            return


def shutdown() -> None:
    """Do nothing: a signal stops the controller."""


def _namespace() -> str:
    namespace = EnvironmentVariables(os.environ).text(NAMESPACE_VARIABLE, refuse_empty=True)
    if not namespace:
        raise BadInput(
            f"{NAMESPACE_VARIABLE} is not set",
            subject=NAMESPACE_VARIABLE,
            remedy="set it to the namespace of the controller",
        )
    return namespace


def _with_api(work: Callable[[Api], Awaitable[None]]) -> None:
    set_up_logging("info")

    async def body() -> None:
        api = Api(await open_connection(EnvironmentVariables(os.environ).kubeconfig() or ""))
        try:
            await work(api)
        finally:
            await api.close()

    _run(body())


def _run(work: Coroutine[None, None, None]) -> None:
    try:
        asyncio.run(work)
    except BadInput as error:
        _log.critical("settings: %s", error, extra={"fields": {"key": error.subject}})
        raise typer.Exit(EXIT_SETTINGS) from None
    except (OrbweaverError, OSError) as error:
        _log.critical("the command failed: %s", error)
        raise typer.Exit(EXIT_FAILED) from None
