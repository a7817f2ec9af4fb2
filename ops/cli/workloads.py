"""Who tells ``orbctl`` of applications: records, or a cluster's API server.

In a cluster there are no records: the API server is asked, as the controllers ask it.
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

Told = Mapping["ApplicationKey", "Application | MissingOwner"]
"""Every application that asks for pools or has some; Missing: what is known of its absence."""


async def told_applications(kubeconfig: str, ledger: Ledger) -> Told | None:
    """As a cluster has them; None: no cluster is named, here or by the environment.

    Raises BadInput without credentials. What cannot be seen is said, and is not called gone.
    """
    named = kubeconfig or EnvironmentVariables(os.environ).kubeconfig()
    if named is None:
        return None

    api = Api(await open_connection(named))
    source = KubernetesApplications(api)
    watching = asyncio.ensure_future(source.run())
    try:
        await source.listed()
        return await _told(source, ledger)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await api.close()


async def _told(source: KubernetesApplications, ledger: Ledger) -> Told:
    owners = {key for pool in ledger.pools.values() if (key := application_of(pool.labels))}
    told: dict[ApplicationKey, Application | MissingOwner] = {
        key: one
        for key, one in source.known().items()
        if key in owners or asks_for_pools(one.annotations)
    }
    fault = source.fault
    if fault:
        typer.echo(f"not all applications can be seen: {fault}", err=True)
    for key in sorted(owners - told.keys()):
        told[key] = MissingOwner(certain=False, why=fault) if fault else await source.find(key)
    return told
