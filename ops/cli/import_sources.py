"""Sources of ``orbctl import``: files or an API server with objects of another IPAM."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from core.errors import BadInput
from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from core.manifests.foreign.calico import read_calico
from core.manifests.foreign.host_local import read_host_local
from core.manifests.foreign.ipam_configurations import NETWORK_KIND
from core.manifests.foreign.node_slices import NODE_SLICE_KIND
from core.manifests.foreign.whereabouts import read_whereabouts
from core.manifests.kinds.fields import API_VERSION
from core.manifests.spiderpool import Dump, read_spiderpool, values_in
from ops.cli.input_files import read_texts
from ops.cli.node_file_copies import read_node_folders

KUBECONFIG: Final = "KUBECONFIG"
"""A variable with files separated by colons; only the first file is used."""

KubeconfigOption = Annotated[
    str, typer.Option("--kubeconfig", help="kubeconfig of the cluster; default: kubectl's")
]
KubeContextOption = Annotated[
    str, typer.Option("--context", help="context of the kubeconfig; default: its current context")
]
FINDINGS_SHOWN_MAX: Final = 50
"""Limit for the rows of one table."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

Values = list[tuple[str, object]]
"""Objects with their locations in the input."""

ReadDump = Callable[[], Awaitable[Dump]]
"""Each call lists the objects of the API server again; files are read once."""


class ForeignSystem(NamedTuple):
    """Another IPAM. ``collections`` maps API paths to kinds.

    Objects that show used addresses are listed before objects that show free addresses. Otherwise,
    an address whose state changes during the listing could be missed.
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
        "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions": NETWORK_KIND,
        "/apis/whereabouts.cni.cncf.io/v1alpha1/ippools": "IPPool",
        "/apis/whereabouts.cni.cncf.io/v1alpha1/nodeslicepools": NODE_SLICE_KIND,
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
    "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions": NETWORK_KIND,
    "/api/v1/nodes": "Node",
    **_PODS,
}
"""These collections have no allocations: host-local stores allocations in files on the nodes."""


def dump_reader(
    system: ForeignSystem, files: Sequence[str], kubeconfig: str, context: str
) -> ReadDump:
    """A function that reads the files or, without files, the cluster.

    Raises BadInput for an unreadable file, or for files with a kubeconfig or context.
    """
    values = _values_of(system.collections, files, kubeconfig, context)

    async def read() -> Dump:
        return system.read(await values())

    return read


def host_local_dump_reader(
    folder: str, files: Sequence[str], kubeconfig: str, context: str
) -> ReadDump:
    """A function that reads the nodes' folders, then the files or the cluster.

    The folders show used addresses, so the folders are read first. Raises BadInput.
    """
    values = _values_of(HOST_LOCAL_COLLECTIONS, files, kubeconfig, context)

    async def read() -> Dump:
        nodes = read_node_folders(folder)
        return read_host_local(nodes, await values())

    return read


def default_kubeconfig() -> str:
    """The first kubeconfig file that kubectl would read."""
    first = os.environ.get(KUBECONFIG, "").split(os.pathsep)[0]
    return first or str(Path(DEFAULT_KUBECONFIG).expanduser())


def _values_of(
    collections: Mapping[str, str], files: Sequence[str], kubeconfig: str, context: str
) -> Callable[[], Awaitable[Values]]:
    if files and (kubeconfig or context):
        raise BadInput(
            "--filename cannot be combined with --kubeconfig or --context",
            subject="filename",
            remedy="use only --filename, or only --kubeconfig and --context",
        )
    texts = list(values_in(text for _, text in read_texts(files)))  # standard input is read once

    async def read() -> Values:
        if files:
            return texts
        return list(await _list_objects(collections, kubeconfig or default_kubeconfig(), context))

    return read


async def _list_objects(
    collections: Mapping[str, str], kubeconfig: str, context: str
) -> list[tuple[str, Object]]:
    """List all objects; skip collections that are not served. Raises ApiError, BadInput."""
    api = Api(await open_connection(kubeconfig, context))
    try:
        return [
            (f"{path.rpartition('/')[2]}/{body['metadata']['name']}", body | {"kind": kind})
            for path, kind in collections.items()
            for body in await api.list_if_served(path)
        ]
    finally:
        await api.close()
