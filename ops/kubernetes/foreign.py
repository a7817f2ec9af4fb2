"""Reads the objects of a running Spiderpool cluster from its API server.

Endpoints are listed before pools: Spiderpool writes the record in the pool before the endpoint, and
removes it before the endpoint. So an address in use is in at least one of the two lists, whatever
happens between them.
"""

from __future__ import annotations

from typing import Final

from core.errors import ApiNotFound
from core.kubernetes.api import Api, Object
from core.kubernetes.connection import open_connection
from core.manifests.kinds.fields import API_VERSION

COLLECTIONS: Final = {
    "spidersubnets": "SpiderSubnet",
    "spiderreservedips": "SpiderReservedIP",
    "spiderendpoints": "SpiderEndpoint",
    "spiderippools": "SpiderIPPool",
}
"""The kind by its plural, in the order of listing."""


async def list_cluster(kubeconfig: str, context: str = "") -> list[tuple[str, Object]]:
    """All objects of these kinds, each with its path.

    A kind without a CRD in that cluster has no objects. Raises ApiError, BadInput.
    """
    api = Api(await open_connection(kubeconfig, context))
    try:
        return [
            (f"{plural}/{body['metadata']['name']}", body | {"kind": kind})
            for plural, kind in COLLECTIONS.items()
            for body in await _list(api, f"/apis/{API_VERSION}/{plural}")
        ]
    finally:
        await api.close()


async def _list(api: Api, path: str) -> list[Object]:
    try:
        return (await api.list(path)).items
    except ApiNotFound:
        return []
