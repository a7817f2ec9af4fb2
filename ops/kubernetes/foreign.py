"""Reads the objects of another IPAM system from its API server. It writes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import ApiNotFound
from core.kubernetes.api import Api, Object
from core.kubernetes.connection import open_connection


async def list_objects(
    collections: Mapping[str, str], kubeconfig: str, context: str = ""
) -> list[tuple[str, Object]]:
    """Every object of these collections (path below the API server -> kind), and where it is from.

    Collections are listed in order. One that is not defined there has no objects. Raises ApiError,
    BadInput.
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
    """A collection; nothing where its kind is not defined. Raises ApiError."""
    try:
        return (await api.list(path)).items
    except ApiNotFound:
        return []
