"""Facts: the fields of a request's Pod, Namespace and Node that pool selection and claims use.

In standalone mode, facts come from CNI_ARGS and from records: manifests that users have stored by
``orbctl apply``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.model import FixedKind, Owner


class PodReference(NamedTuple):
    """The Pod that a request names."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    container: str = ""


class PodFacts(NamedTuple):
    """One Pod. ``owner``: the top controller (Deployment, not ReplicaSet).

    ``fixed``: None if the addresses are not fixed. ``endpoint_name``: "" means the Pod's name.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner: Owner | None = None
    alive: bool | None = None
    """See docs/reference/pool-selection.md, "Living Pods". None: unknown; an ADD is not refused."""
    fixed: FixedKind | None = None
    endpoint_name: str = ""
    known: bool = True
    """False: no object or record; only namespace, name and UID are known."""
    migrating: bool = False
    """The target of a live migration whose source still uses the addresses."""
    claims: Mapping[str, str] = {}
    """NIC -> IPAMClaim."""
    ipam_claim: str = ""
    """The IPAMClaim of the requested NIC."""

    @property
    def endpoint_key(self) -> tuple[str, str]:
        return self.namespace, self.endpoint_name or self.name


class NamespaceFacts(NamedTuple):
    """One Namespace. ``known`` False: no object or record."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    known: bool = False


class NodeFacts(NamedTuple):
    """One Node. ``known`` False: no object or record."""

    name: str
    labels: dict[str, str] = {}
    known: bool = False


class RequestFacts(NamedTuple):
    """All facts about one request."""

    pod: PodFacts
    namespace: NamespaceFacts
    node: NodeFacts
