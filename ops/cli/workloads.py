"""Where ``orbctl`` reads applications from: the API server of a cluster, or records.

In a cluster there are no records: orbctl lists the workloads as controllers do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from core.domain.autopools.applications import Application
from core.domain.autopools.names import ApplicationKey
from core.domain.evolution import Ledger
from core.domain.fixed.owners import MissingOwner
from core.process.environment import KUBECONFIG, EnvironmentVariables

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
    from ops.cli.cluster_applications import list_applications  # noqa: PLC0415  # see there

    return await list_applications(named, ledger)
