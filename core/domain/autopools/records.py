"""Applications from records, which replace API objects in standalone mode.

A record is of one of the six built-in kinds; fields that its manifest lacks get the API server's
defaults. Other owners are only known by the ownerReferences of Pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from core.domain.autopools.applications import BUILT_IN, PARENTS, REPLICATED, Application
from core.domain.autopools.names import ApplicationKey
from core.domain.events import RecordDefined
from core.domain.model import Owner

OWNERS_MAX: Final = 2
"""Steps from a Pod to its top controller: Pod, ReplicaSet, Deployment."""

Records = Mapping[tuple[str, str, str], RecordDefined]


def derived_uid(key: ApplicationKey) -> str:
    """The UID of an application without one, derived from its name."""
    return blake2b(str(key).encode(), digest_size=8).hexdigest()


def application_in(record: RecordDefined) -> Application | None:
    """The application that a record is about, None for any other record."""
    workload = record.workload
    if workload is None:
        return None
    key = ApplicationKey(record.api_version, record.kind, record.namespace, record.name)
    parent = (record.owner_api_version, record.owner_kind) if record.owner_name else ("", "")
    uid, scale = record.uid or derived_uid(key), workload.scale
    if record.kind in REPLICATED:
        scale = scale._replace(replicas=record.replicas)
    return Application(key, uid, workload.annotations, scale, workload.host_network, parent)


def record_key(key: ApplicationKey) -> tuple[str, str, str] | None:
    """Where the record of an application would be; None for a third party, which never has one."""
    if BUILT_IN.get(key.kind) != key.api_version:
        return None
    return key.kind, key.namespace, key.name


def top_controller(owner: Owner, records: Records) -> Owner:
    """The controller at the end of the chain that begins with ``owner``, with its UID.

    The chain ends at an owner without a record (docs/reference/pool-selection.md, "Top
    controller").
    """
    for _ in range(OWNERS_MAX):
        record = _record_of(owner, records)
        if record is None or not record.owner_name:
            break
        parent = (record.owner_api_version, record.owner_kind)
        if PARENTS.get(owner.kind) != parent:
            break  # an Argo Rollout's ReplicaSet counts as the ReplicaSet
        owner = Owner(record.owner_kind, record.owner_name, owner.namespace, parent[0])
    record = _record_of(owner, records)
    key = ApplicationKey(owner.api_version, owner.kind, owner.namespace, owner.name)
    uid = record.uid if record is not None else ""
    return owner._replace(uid=uid or derived_uid(key))


def _record_of(owner: Owner, records: Records) -> RecordDefined | None:
    if BUILT_IN.get(owner.kind) != owner.api_version:
        return None
    return records.get((owner.kind, owner.namespace, owner.name))
