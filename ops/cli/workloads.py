"""Lists the applications of a Kubernetes cluster, as controllers do.

Without Kubernetes, the ledger has the workloads as records.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.process.environment import KUBECONFIG_VARIABLE, EnvironmentVariables

Kubeconfig = Annotated[
    str,
    typer.Option(
        envvar=KUBECONFIG_VARIABLE, help="kubeconfig of the cluster that has the applications"
    ),
]

Applications = Mapping["ApplicationKey", "Application | MissingOwner"]
"""Each application that requests or has automatic pools, or why it was not found."""


async def read_applications(kubeconfig: str, ledger: Ledger) -> Applications | None:
    """List a cluster's applications; None if neither option nor environment names a cluster.

    Prints each kind that cannot be listed; applications of such a kind do not count as deleted.
    Raises BadInput if there are no credentials.
    """
    cluster = kubeconfig or EnvironmentVariables(os.environ).kubeconfig()
    if cluster is None:
        return None
    from ops.cli.application_sources import list_applications  # noqa: PLC0415  # slow to import

    return await list_applications(cluster, ledger)
