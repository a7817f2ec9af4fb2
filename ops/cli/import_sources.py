"""The sources of ``orbctl import``: files with objects of another IPAM, or an API server."""

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
from core.manifests.foreign.node_slices import NODE_SLICES
from core.manifests.foreign.whereabouts import read_whereabouts
from core.manifests.kinds.fields import API_VERSION
from core.manifests.spiderpool import Dump, read_spiderpool, values_in
from ops.cli.input_files import read_texts
from ops.cli.node_file_copies import read_node_folders

KUBECONFIG: Final = "KUBECONFIG"
"""The environment variable of kubectl: files separated by colons. Only the first file is used."""

KubeconfigOption = Annotated[
    str, typer.Option("--kubeconfig", help="kubeconfig of the cluster; default: kubectl's")
]
KubeContextOption = Annotated[
    str, typer.Option("--context", help="context of the kubeconfig; default: its current context")
]
FINDINGS_SHOWN_MAX: Final = 50
"""The largest number of findings that are listed without ``-o wide``."""

DEFAULT_KUBECONFIG: Final = "~/.kube/config"

Values = list[tuple[str, object]]
"""Objects, each with its location in the input."""

ReadDump = Callable[[], Awaitable[Dump]]
"""A function that reads the objects of another IPAM from the API server, or from files.

Each call lists the API server's objects again. Files are read only once.
"""


class ForeignSystem(NamedTuple):
    """Another IPAM. ``collections``: API path -> kind of the objects at the path.

    Objects that show an address in use are listed before objects that show the address as free. So
    an address whose state changes during the listing is not missed.
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
    "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions": NETWORK_KIND,
    "/api/v1/nodes": "Node",
    **_PODS,
}
"""Path -> kind for host-local, whose allocations are files on the nodes."""


def dump_reader(
    system: ForeignSystem, files: Sequence[str], kubeconfig: str, context: str
) -> ReadDump:
    """Return a function that reads objects from the files or, without files, from the cluster.

    Raises BadInput if a file cannot be read, or if files are combined with a kubeconfig or context.
    """
    values = _values_of(system.collections, files, kubeconfig, context)

    async def read() -> Dump:
        return system.read(await values())

    return read


def host_local_dump_reader(
    folder: str, files: Sequence[str], kubeconfig: str, context: str
) -> ReadDump:
    """Return a function that reads the folder of each node, then objects as ``dump_reader`` does.

    The folders show which addresses are in use, so the folders are read first. Raises BadInput as
    ``dump_reader`` does.
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
    """List the objects of these collections (path -> kind), each with its location.

    A collection that the API server does not serve has no objects. Raises ApiError, BadInput.
    """
    api = Api(await open_connection(kubeconfig, context))
    try:
        return [
            (f"{path.rpartition('/')[2]}/{body['metadata']['name']}", body | {"kind": kind})
            for path, kind in collections.items()
            for body in await api.list_if_served(path)
        ]
    finally:
        await api.close()
