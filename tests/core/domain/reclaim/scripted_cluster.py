"""A cluster in memory, with the Pods, Nodes and owners that a script describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from core.domain.fixed.fixed_address_owners import StatefulSetState, VmiState, VmState
from core.domain.model import FixedKind, Owner
from core.domain.reclaim.evidence import Kind, Moment, NodeState, PodState
from core.domain.request_facts import PodFacts
from tests.support.cluster_snapshot import ClusterSnapshot, KindListing, ListedObjects

SCRIPTED_KINDS: tuple[Kind, ...] = (
    "Pod", "Node", "StatefulSet", "VirtualMachineInstance", "VirtualMachine", "IPAMClaim",
)  # fmt: skip
STATEFUL_SET = "StatefulSet"
VMI = "VirtualMachineInstance"
START_S = 1_767_268_800.0
"""2026-01-01 12:00:00 UTC."""

TICK_S = 5.0
"""The longest step of the clock; equals the default of ``deadline_interval_s``."""

_TIME = re.compile(r"(\d+)(s|m|h)\Z")

OBSERVER_NAME = "watcher"


def moment(at_s: float, observer: str = OBSERVER_NAME) -> Moment:
    """The instant at which the wall clock and the monotonic clock read ``at_s``."""
    return Moment(unix_s=at_s, observer=observer, steady_s=at_s)


class ObservedPod(NamedTuple):
    """A watch event of a Pod."""

    pod: PodState
    deleted: bool = False

    @property
    def report(self) -> str:
        """The text of a delete event; "" for other events."""
        namespace, name, uid, *_ = self.pod
        return f"Pod {namespace}/{name}, UID {uid}, was deleted" if self.deleted else ""


class ScriptedCluster:
    """The objects and the clock of a cluster.

    ``listing``: ``good``, ``stale`` (listed before the claims were read), ``partial`` (incomplete,
    with one Pod) or ``empty`` (complete, without objects).
    """

    def __init__(self) -> None:
        self.now_s = START_S
        self.pods: dict[tuple[str, str], PodState] = {}
        self.nodes: dict[str, NodeState] = {}
        self.stateful_sets: dict[tuple[str, str], StatefulSetState] = {}
        self.vmis: dict[tuple[str, str], VmiState] = {}
        self.vms: dict[tuple[str, str], VmState] = {}
        self.listing = "good"

    def snapshot(self, claims_read: Moment) -> ClusterSnapshot:
        objects = ListedObjects(
            self.pods.values(),
            self.nodes.values(),
            self.stateful_sets.values(),
            self.vmis.values(),
            self.vms.values(),
        )
        listed_at = moment(claims_read.unix_s - 1 if self.listing == "stale" else self.now_s)
        listed_at = listed_at._replace(observer=claims_read.observer)
        complete = self.listing != "partial"
        if self.listing == "empty":
            objects = ListedObjects()
        if self.listing == "partial":
            objects = objects._replace(pods=list(self.pods.values())[:1])
        listings = {kind: KindListing(listed_at, complete) for kind in SCRIPTED_KINDS}
        return ClusterSnapshot(objects, listings, claims_read)

    def set_pod(self, pod: PodState) -> ObservedPod:
        self.pods[pod.namespace, pod.name] = pod
        return ObservedPod(pod)

    def drop_pod(self, key: tuple[str, str]) -> ObservedPod:
        return ObservedPod(self.pods.pop(key), deleted=True)

    def advance(self, text: str) -> Iterator[float]:
        """Advance the clock in steps; yield the time after each step."""
        remaining_s = seconds(text)
        while remaining_s > 0:
            step = min(remaining_s, TICK_S)
            self.now_s += step
            remaining_s -= step
            yield self.now_s


def seconds(text: str) -> float:
    """The seconds of a duration such as ``30s``, ``5m`` or ``1h``."""
    match = _TIME.match(text)
    assert match is not None, text
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def split(text: str) -> tuple[str, str]:
    """Namespace and name of ``namespace/name``."""
    namespace, _, name = text.partition("/")
    assert name, text
    return namespace, name


def owner_of(text: str) -> Owner | None:
    """The owner in a text such as ``StatefulSet/web`` or ``vm/vm-a``."""
    kind, _, name = text.partition("/")
    if kind == "vm":
        return Owner(VMI, name, api_version="kubevirt.io/v1")
    if kind in (STATEFUL_SET, "Deployment"):
        return Owner(kind, name, api_version="apps/v1")
    if kind == "kruise":
        return Owner(STATEFUL_SET, name, api_version="apps.kruise.io/v1beta1")
    return Owner(kind, name, api_version="batch/v1") if name else None


def facts_of(pod: PodState, fixed: FixedKind | None) -> PodFacts:
    name = pod.owner.name if fixed == "vm" and pod.owner is not None else ""
    return PodFacts(
        pod.namespace,
        pod.name,
        pod.uid,
        node=pod.node,
        owner=pod.owner,
        fixed=fixed,
        endpoint_name=name,
    )
