"""Facts about the Pod of a request: ``FactsSource``, and its version without Kubernetes.

Without Kubernetes, names come from CNI_ARGS. All other facts come from records: manifests that
an operator applied. ``nodeagent.kubernetes`` has the version for clusters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.autopools.applications import top_controller
from core.domain.events import RecordDefined
from core.domain.fixed.fixed_address_owners import (
    STATEFUL_SET,
    VM_INSTANCE,
    FixedSettings,
    RecordOwners,
    kind_of_holder,
    kind_of_pod,
)
from core.domain.fixed.owner_validity import Validity, validity_of
from core.domain.model import Endpoint, FixedKind, Owner
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.errors import LogCorrupt, OrbweaverError
from core.projections.configuration_view import ConfigurationView, UndecodableKey

DEFAULT_NAMESPACE: Final = "default"
CONFIRM_S_MAX: Final = 2.0
"""Limit of one confirmation, by the API server or from the records."""

MIGRATION_ANNOTATION: Final = "kubevirt.io/migrationJobName"
"""Annotation of a live migration's target Pod (docs/reference/annotations.md)."""

_API_VERSIONS: Final = {STATEFUL_SET: "apps/v1", VM_INSTANCE: "kubevirt.io/v1"}

Records = Mapping[tuple[str, str, str], RecordDefined]


class Liveness(NamedTuple):
    """Whether a Pod runs. ``alive`` None: unknown.

    ``doubt``: why the API server did not answer, so that no address is released; else "".
    """

    alive: bool | None
    doubt: str = ""


class FactsSource(Protocol):
    """A source of facts about Pods, their namespaces and owners, and this node.

    Cached facts may be old. Before an address is released, the API server must confirm the release
    (``confirm_liveness``, ``confirm_endpoint``) within ``CONFIRM_S_MAX`` (I6 in
    docs/contributing/architecture.md). Only the coroutines wait for I/O.
    """

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        """The facts for an ADD; None if ``load_pod`` must be called first."""
        ...

    async def load_pod(self, reference: PodReference) -> None:
        """Load the Pod of an ADD; afterwards ``facts`` returns complete facts.

        Raises WrongInput if the Pod does not exist, NotReady if the Pod cannot be read now,
        LogCorrupt if a record cannot be decoded.
        """
        ...

    async def confirm_pod_exists(self, reference: PodReference) -> None:
        """Confirm that the Pod exists, before the Pod takes over an earlier Pod's addresses.

        Raises WrongInput if another Pod or no Pod has the name, NotReady if the API server does not
        answer.
        """
        ...

    def liveness(self, reference: PodReference) -> Liveness | None:
        """Whether a Pod runs, from cached facts; None if the API server must be read."""
        ...

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        """Read from the API server whether a Pod runs. Never fails."""
        ...

    def facts(self, reference: PodReference) -> RequestFacts:
        """The known facts."""
        ...

    def node(self) -> NodeFacts:
        """The known facts of this node."""
        ...

    def endpoint_validity(self, endpoint: Endpoint) -> Validity | None:
        """Whether a fixed endpoint is still needed; None if the endpoint is not fixed.

        Before an address is released, the caller must call ``confirm_endpoint``.
        """
        ...

    async def confirm_endpoint(self, endpoint: Endpoint) -> Validity | None:
        """Like ``endpoint_validity``, but read the API server unless the cached state is "valid".

        Never fails.
        """
        ...


def node_labels(facts: FactsSource) -> Mapping[str, str] | None:
    """The labels of this node; None while they are unknown."""
    node = facts.node()
    return node.labels if node.known else None


class StandaloneFactsSource:
    """Facts from the request and from applied records.

    The container id replaces a missing Pod name or UID. Whether a Pod runs is always unknown.
    """

    def __init__(self, view: ConfigurationView, node: str, fixed: FixedSettings) -> None:
        self._view = view
        self._node = node
        self._fixed = fixed

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        """The facts; None while any record is unreadable, because it may be this Pod's record."""
        return None if self._view.current.undecodable else self.facts(reference)

    async def load_pod(self, reference: PodReference) -> None:
        """Raise LogCorrupt if a record of the Pod or its namespace cannot be read."""
        namespace = reference.namespace or DEFAULT_NAMESPACE
        pod = f"record/Pod/{namespace}/{reference.name or reference.container}"
        for key in (pod, f"record/Namespace/-/{namespace}"):
            undecodable = self._view.current.undecodable.get(key)
            if undecodable is not None:
                why, remedy = undecodable.fault.why, undecodable.fault.remedy
                raise LogCorrupt(why, subject=key, remedy=remedy)

    async def confirm_pod_exists(self, reference: PodReference) -> None:
        """Do nothing."""

    def liveness(self, reference: PodReference) -> Liveness:
        """Always unknown."""
        return Liveness(alive=None)

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        """Always unknown."""
        return self.liveness(reference)

    def facts(self, reference: PodReference) -> RequestFacts:
        """The known facts."""
        namespace, name, uid, container = reference
        namespace = namespace or DEFAULT_NAMESPACE
        name = name or container
        records: Records = self._view.current.records
        pod = PodFacts(namespace, name, uid or container, self._node, known=False)
        record = records.get(("Pod", namespace, name)) if records else None
        if record is not None:
            pod = self._with_record(pod, record)
        return RequestFacts(pod, _namespace(records, namespace), self.node())

    def node(self) -> NodeFacts:
        """The known facts of this node."""
        records: Records = self._view.current.records
        record = records.get(("Node", "", self._node)) if records else None
        if record is None:
            return NodeFacts(self._node)
        return NodeFacts(self._node, record.labels, known=True)

    def endpoint_validity(self, endpoint: Endpoint) -> Validity | None:
        """Whether a record of the owner or of a Pod makes the endpoint fixed."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        if kind is None:
            return None
        undecodable = self._undecodable_record(kind, endpoint)
        if undecodable is not None:
            return Validity("unknown", undecodable.fault.why)
        validity = validity_of(kind, *endpoint.key, RecordOwners(self._view.current.records))
        if validity.state != "unknown":
            return validity
        for record in self._pods_of(kind, endpoint):
            if kind_of_pod(record.name, _owner(record), self._fixed) == kind:
                pod = f"{record.namespace}/{record.name}"
                return Validity("valid", f"the record of Pod {pod} makes it fixed")
        return Validity("invalid", f"no record makes {'/'.join(endpoint.key)} fixed")

    async def confirm_endpoint(self, endpoint: Endpoint) -> Validity | None:
        """Like ``endpoint_validity``, but read the records again unless the state is "valid"."""
        validity = self.endpoint_validity(endpoint)
        if validity is None or validity.state == "valid":
            return validity
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                await self._view.freshen()
        except (OrbweaverError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            return Validity("unknown", f"cannot read the records: {why}", unanswered=True)
        return self.endpoint_validity(endpoint)

    def _undecodable_record(self, kind: FixedKind, endpoint: Endpoint) -> UndecodableKey | None:
        """A record that may make the endpoint valid, so that its address is kept (I6)."""
        undecodable = self._view.current.undecodable
        if not undecodable:
            return None
        namespace, name = endpoint.key
        owner = name.rpartition("-")[0]
        prefix = f"record/Pod/{namespace}/"
        if kind == "vm":  # any Pod of the namespace may be a launcher of the VM
            return next(
                (entry for key, entry in undecodable.items() if key.startswith(prefix)), None
            )
        return undecodable.get(prefix + name) or undecodable.get(
            f"record/{STATEFUL_SET}/{namespace}/{owner}"
        )

    def _with_record(self, pod: PodFacts, record: RecordDefined) -> PodFacts:
        owner = _owner(record)
        fixed_kind = kind_of_pod(pod.name, owner, self._fixed)
        return pod._replace(
            labels=record.labels,
            annotations=record.annotations,
            owner=None if owner is None else top_controller(owner, self._view.current.records),
            fixed=fixed_kind,
            endpoint_name=record.owner_name if fixed_kind == "vm" else "",
            known=True,
            migrating=fixed_kind == "vm" and MIGRATION_ANNOTATION in record.annotations,
        )

    def _pods_of(self, kind: FixedKind, endpoint: Endpoint) -> Iterable[RecordDefined]:
        """The records of Pods that may hold an endpoint: the replica or the VM's launchers."""
        records: Records = self._view.current.records
        if kind == "vm":
            owner = VM_INSTANCE, endpoint.namespace, endpoint.name
            return (
                record
                for record in records.values()
                if (record.owner_kind, record.namespace, record.owner_name) == owner
            )
        replica = records.get(("Pod", *endpoint.key))
        return () if replica is None else (replica,)


def _owner(record: RecordDefined) -> Owner | None:
    if not record.owner_name:
        return None
    kind = record.owner_kind
    api_version = record.owner_api_version or _API_VERSIONS.get(kind, "")
    return Owner(kind, record.owner_name, record.namespace, api_version)


def _namespace(records: Records, name: str) -> NamespaceFacts:
    record = records.get(("Namespace", "", name)) if records else None
    if record is None:
        return NamespaceFacts(name)
    return NamespaceFacts(name, record.labels, record.annotations, known=True)
