"""What the rules need to know of Pod, Namespace and Node, as plain values.

Kubernetes fills them from objects it watches, standalone mode from CNI_ARGS and from records
(``orbctl apply`` of a Pod, Namespace or Node manifest). Rules see no difference.
This module knows neither; it never fetches anything.
"""

from __future__ import annotations

from typing import NamedTuple

from core.domain.model import FixedKind, Owner


class PodReference(NamedTuple):
    """How a request names its Pod; "" where it does not. A CNI call names a container always."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    container: str = ""


class PodFacts(NamedTuple):
    """One Pod.

    ``alive`` as in docs/reference/pool-selection.md, "Living Pods"; None when nobody can tell (the
    runtime's word counts). ``owner`` is the top controller (Deployment, not ReplicaSet). ``fixed``
    says how the Pod's addresses are fixed, None if they are not; ``endpoint_name`` is the VM's name
    where they are a VM's, else "". ``migrating``: it is the target of a live migration, whose
    source still uses the addresses.
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
    """All that one request may be judged by."""

    pod: PodFacts
    namespace: NamespaceFacts
    node: NodeFacts
