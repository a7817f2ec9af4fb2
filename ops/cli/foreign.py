"""Where ``orbctl import`` reads another IPAM's cluster from: files, or its API server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from core.errors import BadInput
from core.manifests.foreign.calico import read_calico
from core.manifests.foreign.host_local import read_host_local
from core.manifests.foreign.ipam_configurations import NETWORK
from core.manifests.foreign.node_slices import NODE_SLICES
from core.manifests.foreign.whereabouts import read_whereabouts
from core.manifests.kinds.fields import API_VERSION
from core.manifests.spiderpool import Dump, read_spiderpool, values_in
from ops.cli.input_files import read_texts
from ops.cli.node_folders import read_node_folders
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

Values = list[tuple[str, object]]
"""Objects, each with where it is from."""

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
        "/apis/whereabouts.cni.cncf.io/v1alpha1/nodeslicepools": NODE_SLICES,
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


HOST_LOCAL_COLLECTIONS: Final = {
    "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions": NETWORK,
    "/api/v1/nodes": "Node",
    **_PODS,
}
"""What host-local itself has is in the files of the nodes."""


def reading(system: ForeignSystem, files: Sequence[str], kubeconfig: str, context: str) -> Reading:
    """How to read. Raises BadInput when both are given, or a file cannot be read."""
    values = _values_of(system.collections, files, kubeconfig, context)

    async def read() -> Dump:
        return system.read(await values())

    return read


def host_local_reading(folder: str, files: Sequence[str], kubeconfig: str, context: str) -> Reading:
    """How to read a folder for each node, and the objects. Raises BadInput as ``reading`` does.

    The folders are read first: they say that an address is in use.
    """
    values = _values_of(HOST_LOCAL_COLLECTIONS, files, kubeconfig, context)

    async def read() -> Dump:
        nodes = read_node_folders(folder)
        return read_host_local(nodes, await values())

    return read


def default_kubeconfig() -> str:
    """The file that kubectl would read."""
    first = os.environ.get(KUBECONFIG, "").split(os.pathsep)[0]
    return first or str(Path(DEFAULT_KUBECONFIG).expanduser())


def _values_of(
    collections: Mapping[str, str], files: Sequence[str], kubeconfig: str, context: str
) -> Callable[[], Awaitable[Values]]:
    if files and (kubeconfig or context):
        raise BadInput(
            "--filename cannot be combined with --kubeconfig or --context",
            subject="filename",
            remedy="remove one or the other",
        )
    texts = list(values_in(text for _, text in read_texts(files)))  # standard input is read once

    async def read() -> Values:
        if files:
            return texts
        return list(await list_objects(collections, kubeconfig or default_kubeconfig(), context))

    return read
