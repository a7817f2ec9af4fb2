"""Facts about the Pod of a request, behind one small interface.

Standalone: names from CNI_ARGS, the rest from the records that an operator applied (manifests of
Pod, StatefulSet, Namespace and Node). ``nodeagent.kubernetes`` is another ``FactsSource``, over
watched objects. A source never decides, and waits only in ``learn``, ``confirm`` and
``confirm_wanted``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.autopools.records import top_controller
from core.domain.events import RecordDefined
from core.domain.facts import NamespaceFacts, NodeFacts, PodFacts, PodReference, RequestFacts
from core.domain.fixed.kinds import (
    STATEFUL_SET,
    VM_INSTANCE,
    FixedSettings,
    kind_of_holder,
    kind_of_pod,
)
from core.domain.fixed.records import RecordOwners
from core.domain.fixed.validity import Validity, validity_of
from core.domain.model import Endpoint, FixedKind, Owner
from core.errors import LogCorrupt, OrbweaverError
from core.projections.configuration_view import ConfigurationView, Unread

NAMESPACE_UNSAID = "default"
CONFIRM_S_MAX: Final = 2.0
"""How long the source of truth may take to confirm what would free an address."""

MIGRATION: Final = "kubevirt.io/migrationJobName"
"""The annotation of a launcher that a live migration goes to (docs/reference/annotations.md)."""

_API_VERSIONS: Final = {STATEFUL_SET: "apps/v1", VM_INSTANCE: "kubevirt.io/v1"}
"""Of owners whose record says none. Other groups have kinds of these names too."""

Records = Mapping[tuple[str, str, str], RecordDefined]


class Liveness(NamedTuple):
    """Whether a Pod runs. ``alive`` None: only the runtime can tell.

    ``doubt``: why the source of truth could not be asked, "" where it was; a doubt frees nothing.
    """

    alive: bool | None
    doubt: str = ""


class FactsSource(Protocol):
    """Where facts come from.

    What a source knows may be old. It is enough to keep an address; before one is freed the source
    of truth is asked (``confirm``, ``confirm_wanted``), within ``CONFIRM_S_MAX`` (I6).
    """

    async def learn(self, reference: PodReference) -> None:
        """Before an ADD: see to it that what ``facts`` says of its Pod is all there is to know.

        Raises WrongInput when there is no such Pod, NotReady when nobody can tell now.
        """
        ...

    async def confirm_current(self, reference: PodReference) -> None:
        """Ask whether this Pod has the name, before an ADD frees what another one of it holds.

        Raises WrongInput when another Pod has it or none, NotReady without an answer.
        """
        ...

    def liveness(self, reference: PodReference) -> Liveness | None:
        """What is certain without asking; None: ``confirm`` has to ask."""
        ...

    async def confirm(self, reference: PodReference) -> Liveness:
        """Ask the source of truth whether the Pod of a DEL runs. Never fails."""
        ...

    def facts(self, reference: PodReference) -> RequestFacts:
        """Everything one request may be judged by, as far as it is known."""
        ...

    def node(self) -> NodeFacts:
        """This node, as far as it is known."""
        ...

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """Whether the replica or VM behind these addresses is wanted; None: they are not fixed.

        By who holds them, not by a Pod, which may be gone already. Only "valid" can be relied on.
        """
        ...

    async def confirm_wanted(self, endpoint: Endpoint) -> Validity | None:
        """The same, asking the source of truth unless it is known to be valid. Never fails."""
        ...


class StandaloneFacts:
    """Facts from the request and from applied records.

    Without a name a Pod is called as its container, without a UID the container's id is its UID,
    without a namespace it is in ``default``. Whether it lives nobody knows: the runtime's word
    counts.
    """

    def __init__(self, view: ConfigurationView, node: str, fixed: FixedSettings) -> None:
        self._view = view
        self._node = node
        self._fixed = fixed

    async def learn(self, reference: PodReference) -> None:
        """Records are there or they are not, or cannot be read. Raises LogCorrupt."""
        if not self._view.current.unread:
            return
        namespace = reference.namespace or NAMESPACE_UNSAID
        pod = f"record/Pod/{namespace}/{reference.name or reference.container}"
        for key in (pod, f"record/Namespace/-/{namespace}"):
            unread = self._view.current.unread.get(key)
            if unread is not None:
                why, remedy = unread.fault.why, unread.fault.remedy
                raise LogCorrupt(why, subject=key, remedy=remedy)

    async def confirm_current(self, reference: PodReference) -> None:
        """Only the runtime knows which Pod came last."""

    def liveness(self, reference: PodReference) -> Liveness:
        """Only the runtime knows whether a Pod runs."""
        return Liveness(None)

    async def confirm(self, reference: PodReference) -> Liveness:
        """There is nothing to ask."""
        return self.liveness(reference)

    def facts(self, reference: PodReference) -> RequestFacts:
        """The facts as of the view's revision."""
        namespace, name, uid, container = reference
        namespace = namespace or NAMESPACE_UNSAID
        name = name or container
        records: Records = self._view.current.records
        pod = PodFacts(namespace, name, uid or container, self._node, known=False)
        record = records.get(("Pod", namespace, name)) if records else None
        if record is not None:
            pod = self._described(pod, record)
        return RequestFacts(pod, _namespace(records, namespace), self.node())

    def node(self) -> NodeFacts:
        """By its record."""
        records: Records = self._view.current.records
        record = records.get(("Node", "", self._node)) if records else None
        if record is None:
            return NodeFacts(self._node)
        return NodeFacts(self._node, record.labels, known=True)

    def wanted(self, endpoint: Endpoint) -> Validity | None:
        """By the StatefulSet's record; without one, as long as a Pod's record makes it so."""
        kind = kind_of_holder(endpoint.holder, self._fixed)
        if kind is None:
            return None
        unread = self._unread_record(kind, endpoint)
        if unread is not None:
            return Validity("unknown", unread.fault.why)
        found = validity_of(kind, *endpoint.key, RecordOwners(self._view.current.records))
        if found.state != "unknown":
            return found
        for record in self._pods_of(kind, endpoint):
            if kind_of_pod(record.name, _owner(record), self._fixed) == kind:
                return Validity(
                    "valid", f"the record of Pod {record.namespace}/{record.name} says so"
                )
        return Validity("invalid", f"no record makes {'/'.join(endpoint.key)} fixed")

    async def confirm_wanted(self, endpoint: Endpoint) -> Validity | None:
        """By records that are as new as etcd."""
        found = self.wanted(endpoint)
        if found is None or found.state == "valid":
            return found
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                await self._view.freshen()
        except (OrbweaverError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            return Validity("unknown", f"the records could not be read: {why}", unanswered=True)
        return self.wanted(endpoint)

    def _unread_record(self, kind: FixedKind, endpoint: Endpoint) -> Unread | None:
        """A record that cannot be read and may say that the endpoint is wanted (I6)."""
        unread = self._view.current.unread
        if not unread:
            return None
        namespace, name = endpoint.key
        owner = name.rpartition("-")[0]
        prefix = f"record/Pod/{namespace}/"
        if kind == "vm":  # the names of its launchers tell nothing
            return next((one for key, one in unread.items() if key.startswith(prefix)), None)
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
        """The replica's record, or those of the VM's launchers, whose names tell nothing."""
        records: Records = self._view.current.records
        if kind == "vm":
            wanted = VM_INSTANCE, endpoint.namespace, endpoint.name
            return (
                one
                for one in records.values()
                if (one.owner_kind, one.namespace, one.owner_name) == wanted
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
