"""Where a server keeps the objects of a kind, as it says itself."""

from __future__ import annotations

from typing import NamedTuple

from core.errors import ApiNotFound
from core.kubernetes.api import Api, segment


class Served(NamedTuple):
    """A kind on a server: the path of its group and version, and what its collection is called."""

    group: str
    plural: str
    namespaced: bool

    @property
    def collection(self) -> str:
        """The path of all its objects, of every namespace."""
        return f"{self.group}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """The path of one object."""
        within = f"/namespaces/{segment(namespace)}" if self.namespaced else ""
        return f"{self.group}{within}/{self.plural}/{segment(name)}"


async def served_kind(api: Api, api_version: str, kind: str) -> Served | None:
    """None: the server does not have this kind. Raises ApiError."""
    group = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    try:
        resources = await api.get(group)
    except ApiNotFound:
        return None
    for one in resources.get("resources") or ():
        if one["kind"] == kind and "/" not in one["name"]:
            return Served(group, str(one["name"]), bool(one["namespaced"]))
    return None
