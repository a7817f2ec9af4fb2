"""Reads the objects of another IPAM system from an API server. Only reads."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import ApiNotFound
from core.kubernetes.api import Api, Object
from core.kubernetes.connection import open_connection


async def list_objects(
    collections: Mapping[str, str], kubeconfig: str, context: str = ""
) -> list[tuple[str, Object]]:
    """List (location, object) of every object in these collections (path -> kind).

    A collection that the API server does not serve has no objects. Raises ApiError, BadInput.
    """
    api = Api(await open_connection(kubeconfig, context))
    try:
        return [
            (f"{path.rpartition('/')[2]}/{body['metadata']['name']}", body | {"kind": kind})
            for path, kind in collections.items()
            for body in await list_defined(api, path)
        ]
    finally:
        await api.close()


async def list_defined(api: Api, path: str) -> list[Object]:
    """The objects of a collection; none if the API server does not serve it. Raises ApiError."""
    try:
        return (await api.list(path)).items
    except ApiNotFound:
        return []
