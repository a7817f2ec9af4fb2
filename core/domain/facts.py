"""Facts about Pod, Namespace and Node that the rules use, as plain values.

With Kubernetes they come from watched objects, in standalone mode from CNI_ARGS and from records
(``orbctl apply`` of a Pod, Namespace or Node manifest). The rules are the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.model import FixedKind, Owner


class PodReference(NamedTuple):
    """The Pod of a request; "" for what it does not name. A CNI call always names a container."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    container: str = ""


class PodFacts(NamedTuple):
    """One Pod.

    ``alive`` as in docs/reference/pool-selection.md, "Living Pods"; None if unknown (then the
    request of the runtime decides). ``owner`` is the top controller (Deployment, not ReplicaSet).
    ``fixed``: the kind of its fixed addresses, None if they are not fixed; ``endpoint_name``: the
    name of the VM for a VM's Pod, else "". ``migrating``: it is the target of a live migration,
    whose source still uses the addresses. ``claims``: the IPAMClaims of its NICs, by interface and
    by index; ``ipam_claim``: that of the NIC these facts are about
    (``core.domain.fixed.ipam_claims``).
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner: Owner | None = None
    alive: bool | None = None
    fixed: FixedKind | None = None
    endpoint_name: str = ""
    known: bool = True
    migrating: bool = False
    claims: Mapping[str, str] = {}
    ipam_claim: str = ""

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """(namespace, name) of the endpoint that belongs to this Pod."""
        return self.namespace, self.endpoint_name or self.name


class NamespaceFacts(NamedTuple):
    """One Namespace; without a record a namespace has no labels and no annotations."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    known: bool = False


class NodeFacts(NamedTuple):
    """One Node; without a record a node has no labels."""

    name: str
    labels: dict[str, str] = {}
    known: bool = False


class RequestFacts(NamedTuple):
    """All facts about one request."""

    pod: PodFacts
    namespace: NamespaceFacts
    node: NodeFacts
