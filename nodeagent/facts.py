"""Facts about the Pod of a request: the interface, and the source of standalone agents.

Standalone, names come from CNI_ARGS and the rest from records that an operator applied (manifests
of Pod, StatefulSet, Namespace and Node). ``nodeagent.kubernetes`` has the ``FactsSource`` of
clusters. A source waits only in ``learn``, ``confirm_current``, ``confirm`` and ``confirm_wanted``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.autopools.applications import top_controller
from core.domain.events import RecordDefined
from core.domain.facts import NamespaceFacts, NodeFacts, PodFacts, PodReference, RequestFacts
from core.domain.fixed.owners import (
    STATEFUL_SET,
    VM_INSTANCE,
    FixedSettings,
    RecordOwners,
    kind_of_holder,
    kind_of_pod,
)
from core.domain.fixed.validity import Validity, validity_of
from core.domain.model import Endpoint, FixedKind, Owner
from core.errors import LogCorrupt, OrbweaverError
from core.projections.configuration_view import ConfigurationView, Unread

DEFAULT_NAMESPACE: Final = "default"
CONFIRM_S_MAX: Final = 2.0
"""Seconds for the API server's confirmation before an address is released."""

MIGRATION: Final = "kubevirt.io/migrationJobName"
"""The annotation of a live migration's target launcher (docs/reference/annotations.md)."""

_API_VERSIONS: Final = {STATEFUL_SET: "apps/v1", VM_INSTANCE: "kubevirt.io/v1"}
"""The API version of an owner whose record has none. Other groups have kinds of these names too."""

Records = Mapping[tuple[str, str, str], RecordDefined]


class Liveness(NamedTuple):
    """Whether a Pod runs. ``alive`` None: unknown to the agent.

    ``doubt``: why the API server did not answer, "" if it did; with a doubt nothing is released.
    """

    alive: bool | None
    doubt: str = ""


class FactsSource(Protocol):
    """The source of facts.

    Cached facts may be old. They are enough to keep an address; before an address is released the
    API server confirms it (``confirm``, ``confirm_wanted``) within ``CONFIRM_S_MAX`` (I6).
    """

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        """The facts for an ADD; None: they are complete only after ``learn``."""
        ...

    async def learn(self, reference: PodReference) -> None:
        """Make the Pod of an ADD known, so that ``facts`` is complete.

        Raises WrongInput if the Pod does not exist, NotReady if it cannot be read now.
        """
        ...

    async def confirm_current(self, reference: PodReference) -> None:
        """Confirm that this Pod has its name, before an ADD takes over another Pod's addresses.

        Raises WrongInput if another Pod has the name or none does, NotReady without an answer.
        """
        ...

    def liveness(self, reference: PodReference) -> Liveness | None:
        """Whether a Pod runs, if that is certain without a request; else None."""
        ...

    async def confirm(self, reference: PodReference) -> Liveness:
        """Ask the API server whether the Pod of a DEL runs. Never fails."""
        ...

    def facts(self, reference: PodReference) -> RequestFacts:
        """The known facts for one request."""
        ...

    def node(self) -> NodeFacts:
        """The known facts of this node."""
        ...

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """Whether the replica or VM that holds an endpoint is wanted; None if it is not fixed.

        It depends on the holder, because the Pod may be gone. Only "valid" is certain.
        """
        ...

    async def confirm_wanted(self, endpoint: Endpoint) -> Validity | None:
        """Like ``wanted``, but ask the API server unless the answer is "valid". Never fails."""
        ...


def node_labels(facts: FactsSource) -> Mapping[str, str] | None:
    """The labels of this node; None while they are unknown."""
    node = facts.node()
    return node.labels if node.known else None


class StandaloneFacts:
    """Facts from the request and from applied records.

    The container id stands in for a missing Pod name and for a missing UID; a missing namespace is
    ``default``. Unknown: without Kubernetes only the runtime has this fact.
    """

    def __init__(self, view: ConfigurationView, node: str, fixed: FixedSettings) -> None:
        self._view = view
        self._node = node
        self._fixed = fixed

    def complete_facts(self, reference: PodReference) -> RequestFacts | None:
        """The facts, unless a record cannot be read."""
        return None if self._view.current.unread else self.facts(reference)

    async def learn(self, reference: PodReference) -> None:
        """Raise LogCorrupt if a record of the Pod or its namespace cannot be read."""
        namespace = reference.namespace or DEFAULT_NAMESPACE
        pod = f"record/Pod/{namespace}/{reference.name or reference.container}"
        for key in (pod, f"record/Namespace/-/{namespace}"):
            unread = self._view.current.unread.get(key)
            if unread is not None:
                why, remedy = unread.fault.why, unread.fault.remedy
                raise LogCorrupt(why, subject=key, remedy=remedy)

    async def confirm_current(self, reference: PodReference) -> None:
        """Do nothing: only the runtime knows which Pod is current."""

    def liveness(self, reference: PodReference) -> Liveness:
        """Unknown: only the runtime knows whether a Pod runs."""
        return Liveness(None)

    async def confirm(self, reference: PodReference) -> Liveness:
        """The same as ``liveness``: there is no API server."""
        return self.liveness(reference)

    def facts(self, reference: PodReference) -> RequestFacts:
        """The facts as of the view's revision."""
        namespace, name, uid, container = reference
        namespace = namespace or DEFAULT_NAMESPACE
        name = name or container
        records: Records = self._view.current.records
        pod = PodFacts(namespace, name, uid or container, self._node, known=False)
        record = records.get(("Pod", namespace, name)) if records else None
        if record is not None:
            pod = self._described(pod, record)
        return RequestFacts(pod, _namespace(records, namespace), self.node())

    def node(self) -> NodeFacts:
        """The facts in the record of the Node."""
        records: Records = self._view.current.records
        record = records.get(("Node", "", self._node)) if records else None
        if record is None:
            return NodeFacts(self._node)
        return NodeFacts(self._node, record.labels, known=True)

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """Read the record of the StatefulSet or VM, else that of a Pod with such an owner."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        if kind is None:
            return None
        unread = self._unread_record(kind, endpoint)
        if unread is not None:
            return Validity("unknown", unread.fault.why)
        validity = validity_of(kind, *endpoint.key, RecordOwners(self._view.current.records))
        if validity.state != "unknown":
            return validity
        for record in self._pods_of(kind, endpoint):
            if kind_of_pod(record.name, _owner(record), self._fixed) == kind:
                pod = f"{record.namespace}/{record.name}"
                return Validity("valid", f"the record of Pod {pod} makes it fixed")
        return Validity("invalid", f"no record makes {'/'.join(endpoint.key)} fixed")

    async def confirm_wanted(self, endpoint: Endpoint) -> Validity | None:
        """Like ``wanted``, with records that are as new as etcd."""
        validity = self.wanted(endpoint)
        if validity is None or validity.state == "valid":
            return validity
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                await self._view.freshen()
        except (OrbweaverError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            return Validity("unknown", f"cannot read the records: {why}", unanswered=True)
        return self.wanted(endpoint)

    def _unread_record(self, kind: FixedKind, endpoint: Endpoint) -> Unread | None:
        """An unreadable record that may make the endpoint wanted (I6)."""
        unread = self._view.current.unread
        if not unread:
            return None
        namespace, name = endpoint.key
        owner = name.rpartition("-")[0]
        prefix = f"record/Pod/{namespace}/"
        if kind == "vm":  # names of launcher Pods do not contain the VM's name
            return next((entry for key, entry in unread.items() if key.startswith(prefix)), None)
        return unread.get(prefix + name) or unread.get(f"record/{STATEFUL_SET}/{namespace}/{owner}")

    def _described(self, pod: PodFacts, record: RecordDefined) -> PodFacts:
        owner = _owner(record)
        fixed = kind_of_pod(pod.name, owner, self._fixed)
        return pod._replace(
            labels=record.labels,
            annotations=record.annotations,
            owner=None if owner is None else top_controller(owner, self._view.current.records),
            fixed=fixed,
            endpoint_name=record.owner_name if fixed == "vm" else "",
            known=True,
            migrating=fixed == "vm" and MIGRATION in record.annotations,
        )

    def _pods_of(self, kind: FixedKind, endpoint: Endpoint) -> Iterable[RecordDefined]:
        """The records of Pods that may hold an endpoint: the replica, or launchers of the VM."""
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
