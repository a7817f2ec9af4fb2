"""Facts about Pod, Namespace and Node that the rules use, as plain values.

With Kubernetes they come from watched objects, in standalone mode from CNI_ARGS and from records
(``orbctl apply`` of a Pod, Namespace or Node manifest). The rules are the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.model import FixedKind, Owner


class PodReference(NamedTuple):
    """The Pod that a request names; a field that the request does not have is "".

    A CNI call always has the container.
    """

    namespace: str = ""
    name: str = ""
    uid: str = ""
    container: str = ""


class PodFacts(NamedTuple):
    """One Pod.

    ``owner`` is the top controller (Deployment, not ReplicaSet). ``fixed``: the kind of its fixed
    addresses, None if they are not fixed; ``endpoint_name``: the name of the VM for a VM's Pod,
    else "".
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner: Owner | None = None
    alive: bool | None = None
    """See docs/reference/pool-selection.md, "Living Pods". None (unknown): the runtime decides."""
    fixed: FixedKind | None = None
    endpoint_name: str = ""
    known: bool = True
    """False: there is no object or record of it, so only names and UID are facts."""
    migrating: bool = False
    """It is the target of a live migration, whose source still uses the addresses."""
    claims: Mapping[str, str] = {}
    """The IPAMClaim of each NIC that has one; a NIC has two keys, its interface and its index."""
    ipam_claim: str = ""
    """The IPAMClaim of the one NIC that these facts are for; see ``ipam_claims.pod_of_nic``."""

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """(namespace, name) of the endpoint that belongs to this Pod."""
        return self.namespace, self.endpoint_name or self.name


class NamespaceFacts(NamedTuple):
    """One Namespace. ``known`` False: no record, so labels and annotations are empty."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    known: bool = False


class NodeFacts(NamedTuple):
    """One Node. ``known`` False: no record, so labels are empty."""

    name: str
    labels: dict[str, str] = {}
    known: bool = False


class RequestFacts(NamedTuple):
    """All facts about one request."""

    pod: PodFacts
    namespace: NamespaceFacts
    node: NodeFacts
