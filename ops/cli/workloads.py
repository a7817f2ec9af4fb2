"""Where ``orbctl`` reads applications from: the API server of a cluster, or records.

In a cluster there are no records: orbctl lists the workloads as controllers do.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated

import typer

from core.domain.autopools.applications import Application
from core.domain.autopools.names import ApplicationKey, application_of
from core.domain.autopools.requests import asks_for_pools
from core.domain.evolution import Ledger
from core.domain.fixed.owners import MissingOwner
from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from core.process.environment import KUBECONFIG, EnvironmentVariables
from ops.kubernetes.watches.applications import KubernetesApplications

Kubeconfig = Annotated[
    str,
    typer.Option(envvar=KUBECONFIG, help="ask this cluster's API server about applications"),
]

Applications = Mapping["ApplicationKey", "Application | MissingOwner"]
"""Every application that asks for pools or has some; MissingOwner: why it was not found."""


async def read_applications(kubeconfig: str, ledger: Ledger) -> Applications | None:
    """The applications of a cluster; None: no cluster is named, here or by the environment.

    A kind that cannot be listed is reported, and its applications do not count as gone. Raises
    BadInput without credentials.
    """
    named = kubeconfig or EnvironmentVariables(os.environ).kubeconfig()
    if named is None:
        return None
    api = Api(await open_connection(named))
    source = KubernetesApplications(api)
    watching = asyncio.ensure_future(source.run())
    try:
        await source.listed()
        return await _seen_applications(source, ledger)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await api.close()


async def _seen_applications(source: KubernetesApplications, ledger: Ledger) -> Applications:
    owners = {key for pool in ledger.pools.values() if (key := application_of(pool.labels))}
    applications: dict[ApplicationKey, Application | MissingOwner] = {
        key: one
        for key, one in source.known().items()
        if key in owners or asks_for_pools(one.annotations)
    }
    fault = source.fault
    if fault:
        typer.echo(f"warning: not all applications can be listed: {fault}", err=True)
    for key in sorted(owners - applications.keys()):
        applications[key] = (
            MissingOwner(certain=False, why=fault) if fault else await source.find(key)
        )
    return applications
