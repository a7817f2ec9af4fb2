"""Facts: the fields of a request's Pod, Namespace and Node that pool selection and claims use.

In Kubernetes they come from watched objects, in standalone mode from CNI_ARGS and from records
(``orbctl apply`` of a Pod, Namespace or Node manifest).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.model import FixedKind, Owner


class PodReference(NamedTuple):
    """The Pod that a request names; a field that is not in the request is "".

    A CNI call always has ``container``.
    """

    namespace: str = ""
    name: str = ""
    uid: str = ""
    container: str = ""


class PodFacts(NamedTuple):
    """One Pod.

    ``owner`` is the top controller (Deployment, not ReplicaSet). ``fixed``: the kind of its fixed
    addresses, None if it has none. ``endpoint_name``: the name of its endpoint, "" if that is the
    Pod's name; the endpoint of a VM or an IPAMClaim has another name.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner: Owner | None = None
    alive: bool | None = None
    """Whether the Pod is alive (docs/reference/pool-selection.md, "Living Pods").

    None: unknown; no call is refused then.
    """
    fixed: FixedKind | None = None
    endpoint_name: str = ""
    known: bool = True
    """False: the Pod has no object or record, so only its names and UID are known."""
    migrating: bool = False
    """Whether the Pod is the target of a live migration whose source still uses the addresses."""
    claims: Mapping[str, str] = {}
    """The IPAMClaim of each NIC that has one; a NIC has two keys, its interface and its index."""
    ipam_claim: str = ""
    """The IPAMClaim of the NIC whose addresses are allocated; see ``ipam_claims.pod_of_nic``."""

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """(namespace, name) of the endpoint that belongs to this Pod."""
        return self.namespace, self.endpoint_name or self.name


class NamespaceFacts(NamedTuple):
    """One Namespace. ``known`` False: no object or record; labels and annotations are empty."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    known: bool = False


class NodeFacts(NamedTuple):
    """One Node. ``known`` False: no object or record; labels are empty."""

    name: str
    labels: dict[str, str] = {}
    known: bool = False


class RequestFacts(NamedTuple):
    """All facts about one request."""

    pod: PodFacts
    namespace: NamespaceFacts
    node: NodeFacts
