"""Lists the applications of a cluster from its API server.

The HTTP client is slow to import: import this module only for a cluster with an API server.
"""

from __future__ import annotations

import asyncio

import typer

from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey, application_of
from core.domain.autopools.subnet_annotations import requests_pools
from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.cli.workloads import Applications
from ops.kubernetes.watches.applications import KubernetesApplications


async def list_applications(kubeconfig: str, ledger: Ledger) -> Applications:
    """List the applications that request or have automatic pools.

    ``kubeconfig`` "": the cluster in which this process runs as a Pod. If a kind cannot be listed,
    prints a warning, and no missing application counts as deleted. Raises BadInput without
    credentials.
    """
    api = Api(await open_connection(kubeconfig))
    source = KubernetesApplications(api)
    watch_task = asyncio.ensure_future(source.run())
    try:
        await source.listed()
        return await _listed_applications(source, ledger)
    finally:
        watch_task.cancel()
        await asyncio.gather(watch_task, return_exceptions=True)
        await api.close()


async def _listed_applications(source: KubernetesApplications, ledger: Ledger) -> Applications:
    pool_owners = {key for pool in ledger.pools.values() if (key := application_of(pool.labels))}
    applications: dict[ApplicationKey, Application | MissingOwner] = {
        key: application
        for key, application in source.known().items()
        if key in pool_owners or requests_pools(application.annotations)
    }
    fault = source.fault
    if fault:
        typer.echo(f"warning: not all applications can be listed: {fault}", err=True)
    for key in sorted(pool_owners - applications.keys()):
        # After a fault the list is incomplete: a missing application may still exist.
        applications[key] = (
            MissingOwner(certain=False, why=fault) if fault else await source.find(key)
        )
    return applications
