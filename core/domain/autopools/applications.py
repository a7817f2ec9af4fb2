"""Applications: the controllers whose Pods use automatic pools.

The number of Pods is known for six built-in kinds; any other owner is a third-party controller. See
docs/reference/automatic-pool-rules.md, "Size".

In standalone mode, records (stored manifests) of built-in kinds replace API objects; a field that a
manifest lacks gets the API server's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from core.domain.autopools.pool_names import LABEL_PREFIX, ApplicationKey
from core.domain.events import ApplicationScaled, RecordDefined
from core.domain.model import Owner, Scale
from core.domain.request_facts import PodFacts
from core.errors import WrongInput

REPLICATED_KINDS: Final = frozenset({"Deployment", "ReplicaSet", "StatefulSet"})

CRON_JOB: Final = "CronJob"
RUN_TO_COMPLETION_KINDS: Final = frozenset({"Job", CRON_JOB})

DAEMON_SET: Final = "DaemonSet"
_APPS: Final = "apps/v1"
_BATCH: Final = "batch/v1"
BUILT_IN: Final = {
    **dict.fromkeys((*sorted(REPLICATED_KINDS), DAEMON_SET), _APPS),
    **dict.fromkeys(sorted(RUN_TO_COMPLETION_KINDS), _BATCH),
}

PARENT_KINDS: Final = {"ReplicaSet": (_APPS, "Deployment"), "Job": (_BATCH, CRON_JOB)}
"""Kind of a child -> (apiVersion, kind) of the owner that gets the pools instead of the child."""


class Application(NamedTuple):
    """One workload. ``annotations``: the annotations of the innermost Pod template.

    ``controller``: (api version, kind) of the owner; ("", "") for none.
    """

    key: ApplicationKey
    uid: str
    annotations: dict[str, str] = {}
    scale: Scale = Scale()
    host_network: bool = False
    controller: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.key.kind}/{self.key.namespace}/{self.key.name}"


def application_key(pod: PodFacts) -> ApplicationKey:
    """The Pod's top controller, or the Pod itself."""
    owner = pod.owner or Owner("Pod", pod.name)
    namespace = owner.namespace or pod.namespace
    return ApplicationKey(owner.api_version, owner.kind, namespace, owner.name)


def application_of_pod(pod: PodFacts) -> Application:
    """The application, with only the fields that the Pod has."""
    annotations = {
        key: text for key, text in pod.annotations.items() if key.startswith(LABEL_PREFIX)
    }
    uid = pod.owner.uid if pod.owner is not None else ""
    return Application(application_key(pod), uid, annotations)


def is_built_in(key: ApplicationKey) -> bool:
    """Whether the application is of a built-in kind, so that its number of Pods is known."""
    return BUILT_IN.get(key.kind) == key.api_version


def replicas_of(application: Application) -> int:
    """The specified number of Pods; 0 for a third-party controller."""
    kind, scale = application.key.kind, application.scale
    if not is_built_in(application.key):
        return 0
    if kind in REPLICATED_KINDS:
        return scale.replicas or 0
    if kind == DAEMON_SET:
        return scale.desired
    count = scale.parallelism if scale.completions is None else scale.completions
    return count or 1


def scale_of(application: Application) -> ApplicationScaled | None:
    """The event with the application's number of Pods; None for a third-party controller."""
    if not is_built_in(application.key):
        return None
    return ApplicationScaled(*application.key, application.uid, replicas_of(application))


def require_controller(key: ApplicationKey) -> None:
    """Raise WrongInput for a Pod without a controller."""
    if (key.api_version, key.kind) == ("v1", "Pod"):
        raise WrongInput(
            "wrong input, SpiderSubnet feature doesn't support no-controller pod",
            subject=f"Pod/{key.namespace}/{key.name}",
            remedy="run the Pod by a Deployment, or name IPPools instead",
        )


def skip_reason(application: Application) -> str:
    """Why the application may get no pool; "" if it may get one."""
    if application.host_network:
        return "its Pods use hostNetwork"
    parent = PARENT_KINDS.get(application.key.kind)
    if is_built_in(application.key) and parent is not None and application.controller == parent:
        return f"its {parent[1]} gets the pool instead"
    return ""


OWNERS_MAX: Final = 2
"""From a Pod to its top controller: Pod -> ReplicaSet -> Deployment."""

Records = Mapping[tuple[str, str, str], RecordDefined]
"""(kind, namespace, name) -> record."""


def derived_uid(key: ApplicationKey) -> str:
    """A replacement for an unknown UID."""
    return blake2b(str(key).encode(), digest_size=8).hexdigest()


def application_in(record: RecordDefined) -> Application | None:
    """The application of a record; None for another kind of record."""
    workload = record.workload
    if workload is None:
        return None
    key = ApplicationKey(record.api_version, record.kind, record.namespace, record.name)
    parent = (record.owner_api_version, record.owner_kind) if record.owner_name else ("", "")
    uid, scale = record.uid or derived_uid(key), workload.scale
    if record.kind in REPLICATED_KINDS:
        scale = scale._replace(replicas=record.replicas)
    return Application(key, uid, workload.annotations, scale, workload.host_network, parent)


def record_key(key: ApplicationKey) -> tuple[str, str, str] | None:
    """The key in ``Records``; None for a third-party controller."""
    if BUILT_IN.get(key.kind) != key.api_version:
        return None
    return key.kind, key.namespace, key.name


def top_controller(owner: Owner, records: Records) -> Owner:
    """The last controller, with its UID, in the chain of owners that begins with ``owner``.

    The chain ends at an owner without a record (docs/reference/pool-selection.md, "Top
    controller").
    """
    for _ in range(OWNERS_MAX):
        record = _record_of(owner, records)
        if record is None or not record.owner_name:
            break
        parent = (record.owner_api_version, record.owner_kind)
        if PARENT_KINDS.get(owner.kind) != parent:
            break  # for example a ReplicaSet of an Argo Rollout
        owner = Owner(record.owner_kind, record.owner_name, owner.namespace, parent[0])
    record = _record_of(owner, records)
    key = ApplicationKey(owner.api_version, owner.kind, owner.namespace, owner.name)
    uid = record.uid if record is not None else ""
    return owner._replace(uid=uid or derived_uid(key))


def _record_of(owner: Owner, records: Records) -> RecordDefined | None:
    if BUILT_IN.get(owner.kind) != owner.api_version:
        return None
    return records.get((owner.kind, owner.namespace, owner.name))
