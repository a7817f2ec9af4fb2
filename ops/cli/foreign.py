"""Where ``orbctl import`` reads another IPAM's cluster from: files, or its API server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from core.errors import BadInput
from core.manifests.foreign.calico import read_calico
from core.manifests.foreign.ipam_configurations import NETWORK
from core.manifests.foreign.whereabouts import read_whereabouts
from core.manifests.kinds.fields import API_VERSION
from core.manifests.spiderpool import Dump, read_spiderpool, values_in
from ops.cli.input_files import read_texts
from ops.kubernetes.foreign import list_objects

KUBECONFIG: Final = "KUBECONFIG"
"""kubectl's variable: files, by colons; the first one is meant here."""

KubeconfigOption = Annotated[
    str, typer.Option("--kubeconfig", help="kubeconfig of the cluster; default: kubectl's")
]
KubeContextOption = Annotated[
    str, typer.Option("--context", help="context of the kubeconfig; default: its current context")
]
FINDINGS_SHOWN_MAX: Final = 50
"""Findings about another IPAM that are listed; -o wide lists all."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

Reading = Callable[[], Awaitable[Dump]]
"""Reads the cluster as it is now; files say the same each time."""


class ForeignSystem(NamedTuple):
    """Another IPAM: its collections (path -> kind), listed in this order, and how to read them.

    What says that an address is in use comes before what proves it unused: whatever changes between
    two lists, an address in use is in one of them at least.
    """

    collections: Mapping[str, str]
    read: Callable[[Iterable[tuple[str, object]]], Dump]


_PODS: Final = {"/api/v1/pods": "Pod"}

SPIDERPOOL: Final = ForeignSystem(
    {
        f"/apis/{API_VERSION}/spidersubnets": "SpiderSubnet",
        f"/apis/{API_VERSION}/spiderreservedips": "SpiderReservedIP",
        f"/apis/{API_VERSION}/spiderendpoints": "SpiderEndpoint",
        f"/apis/{API_VERSION}/spiderippools": "SpiderIPPool",
    },
    read_spiderpool,
)
WHEREABOUTS: Final = ForeignSystem(
    {
        "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions": NETWORK,
        "/apis/whereabouts.cni.cncf.io/v1alpha1/ippools": "IPPool",
        **_PODS,
    },
    read_whereabouts,
)
CALICO: Final = ForeignSystem(
    {
        "/apis/crd.projectcalico.org/v1/ippools": "IPPool",
        "/apis/crd.projectcalico.org/v1/ipamblocks": "IPAMBlock",
        **_PODS,
    },
    read_calico,
)


def reading(system: ForeignSystem, files: Sequence[str], kubeconfig: str, context: str) -> Reading:
    """How to read. Raises BadInput when both are given, or a file cannot be read."""
    if not files:
        return _of_server(system, kubeconfig or default_kubeconfig(), context)
    if kubeconfig or context:
        raise BadInput(
            "--filename and --kubeconfig or --context exclude each other",
            subject="filename",
            remedy="give --filename, or --kubeconfig and --context",
        )
    return _of_files(system, files)


def default_kubeconfig() -> str:
    """The file that kubectl would read."""
    first = os.environ.get(KUBECONFIG, "").split(os.pathsep)[0]
    return first or str(Path(DEFAULT_KUBECONFIG).expanduser())


def _of_files(system: ForeignSystem, files: Sequence[str]) -> Reading:
    dump = system.read(values_in(text for _, text in read_texts(files)))

    async def read() -> Dump:
        return dump

    return read


def _of_server(system: ForeignSystem, kubeconfig: str, context: str) -> Reading:
    async def read() -> Dump:
        return system.read(await list_objects(system.collections, kubeconfig, context))

    return read
