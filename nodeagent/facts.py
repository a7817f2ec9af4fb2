"""Facts about the Pod of a request, behind one small interface.

Standalone: names from CNI_ARGS, the rest from the records that an operator applied (Pod, Namespace
and Node manifests). Kubernetes will be another ``FactsSource`` over watched objects. A source never
decides and never waits: what it does not know yet is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from core.domain.events import RecordDefined
from core.domain.facts import Facts, NamespaceFacts, NodeFacts, PodFacts
from core.domain.model import FixedKind, Owner
from core.projections.configuration_view import ConfigurationView
from nodeagent.cniwire.arguments import PodArguments

NAMESPACE_UNSAID = "default"
STATEFUL_SET = "StatefulSet"
APPS = "apps/v1"
"""Other groups have kinds of that name too; their Pods are stateless (spec/ipam.md 2.5)."""

Records = Mapping[tuple[str, str, str], RecordDefined]


class PodReference(NamedTuple):
    """How a request names its Pod; "" where it does not. ``container`` is always there."""

    pod: PodArguments
    container: str


class FactsSource(Protocol):
    """Where facts come from."""

    def facts(self, reference: PodReference) -> Facts:
        """Everything one request may be judged by. Raises NotReady when it is not known yet."""
        ...


class StandaloneFacts:
    """Facts from the request and from applied records.

    Without a name a Pod is called as its container, without a UID the container's id is its UID,
    without a namespace it is in ``default``. Whether it lives nobody knows: the runtime's word
    counts.
    """

    def __init__(self, view: ConfigurationView, node: str, *, stateful_sets: bool) -> None:
        self._view = view
        self._node = node
        self._stateful_sets = stateful_sets

    def facts(self, reference: PodReference) -> Facts:
        """The facts as of the view's revision."""
        arguments, container = reference
        namespace = arguments.namespace or NAMESPACE_UNSAID
        name = arguments.name or container
        records: Records = self._view.current.records
        pod = PodFacts(namespace, name, arguments.uid or container, self._node, known=False)
        record = records.get(("Pod", namespace, name)) if records else None
        if record is not None:
            pod = self._described(pod, record)
        return Facts(pod, _namespace(records, namespace), _node(records, self._node))

    def _described(self, pod: PodFacts, record: RecordDefined) -> PodFacts:
        owner = None
        fixed: FixedKind | None = None
        if record.owner_name:
            owner = Owner(
                record.owner_kind, record.owner_name, pod.namespace, record.owner_api_version
            )
            if self._stateful_sets and is_replica(pod.name, record):
                fixed = "statefulset"
        return pod._replace(
            labels=record.labels,
            annotations=record.annotations,
            owner=owner,
            fixed=fixed,
            known=True,
        )


def is_replica(name: str, record: RecordDefined) -> bool:
    """Whether the Pod is a replica: owned by a StatefulSet, and named after it with an ordinal."""
    ordinal = name.removeprefix(f"{record.owner_name}-")
    return (
        record.owner_kind == STATEFUL_SET
        and record.owner_api_version in ("", APPS)
        and ordinal != name
        and ordinal.isascii()
        and ordinal.isdigit()
    )


def _namespace(records: Records, name: str) -> NamespaceFacts:
    record = records.get(("Namespace", "", name)) if records else None
    if record is None:
        return NamespaceFacts(name)
    return NamespaceFacts(name, record.labels, record.annotations, known=True)


def _node(records: Records, name: str) -> NodeFacts:
    record = records.get(("Node", "", name)) if records else None
    if record is None:
        return NodeFacts(name)
    return NodeFacts(name, record.labels, known=True)
