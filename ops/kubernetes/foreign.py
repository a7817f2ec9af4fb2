"""A living Spiderpool cluster as its API server lists it. Reads, and nothing else.

Endpoints come before pools: the other system writes a pool's record before the endpoint, and takes
it back before the endpoint goes. So whatever happens between the two lists, an address in use is in
one of them at least.
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
"""Plural -> kind, in the order in which they are listed."""


async def list_cluster(kubeconfig: str, context: str = "") -> list[tuple[str, Object]]:
    """Every object that has to do with addresses, and where it is from.

    A kind that is not defined there has no objects. Raises ApiError, BadInput.
    """
    api = Api(await open_connection(kubeconfig, context))
    try:
        return [
            (f"{plural}/{one['metadata']['name']}", one | {"kind": kind})
            for plural, kind in COLLECTIONS.items()
            for one in await _list(api, f"/apis/{API_VERSION}/{plural}")
        ]
    finally:
        await api.close()


async def _list(api: Api, path: str) -> list[Object]:
    try:
        return (await api.list(path)).items
    except ApiNotFound:
        return []
