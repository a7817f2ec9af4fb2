"""Lists the applications of a Kubernetes cluster, as controllers do.

Without Kubernetes, applications are records in the ledger.
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

    If a kind cannot be listed, prints a warning and reports no application as deleted. Raises
    BadInput without credentials.
    """
    cluster = kubeconfig or EnvironmentVariables(os.environ).kubeconfig()
    if cluster is None:
        return None
    from ops.cli.application_sources import list_applications  # noqa: PLC0415  # slow to import

    return await list_applications(cluster, ledger)
