"""The kinds of objects, and their names on a command line.

Names: docs/reference/custom-resource-rules.md, "Kinds".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from core.domain.autopools.pool_names import pool_name
from core.domain.configuration import commands
from core.domain.coordinators import COORDINATOR_KIND
from core.errors import BadInput


class ObjectKind(StrEnum):
    """A kind of objects. The value is the kind's name in ``-o name`` and in messages."""

    POOL = "spiderippool"
    SUBNET = "spidersubnet"
    RESERVATION = "spiderreservedip"
    ENDPOINT = "spiderendpoint"
    QUARANTINE = "quarantine"
    RECORD = "record"
    POD = "pod"
    NAMESPACE = "namespace"
    NODE = "node"
    DEPLOYMENT = "deployment"
    REPLICA_SET = "replicaset"
    STATEFUL_SET = "statefulset"
    DAEMON_SET = "daemonset"
    JOB = "job"
    CRON_JOB = "cronjob"
    SERVICE = "service"
    SLICE = "endpointslice"
    COORDINATOR = "spidercoordinator"
    APPLICATION = "application"
    ADDRESS = "address"


_WORDS: Final = {
    ObjectKind.POOL: ("pool", "pools", "ippool", "ippools", "spiderippool", "spiderippools", "sp"),
    ObjectKind.SUBNET: ("subnet", "subnets", "spidersubnet", "spidersubnets", "ss"),
    ObjectKind.RESERVATION: (
        "reservation",
        "reservations",
        "reserved",
        "reservedip",
        "reservedips",
        "spiderreservedip",
        "spiderreservedips",
        "sr",
    ),
    ObjectKind.ENDPOINT: ("endpoint", "endpoints", "spiderendpoint", "spiderendpoints", "se", "ep"),
    ObjectKind.QUARANTINE: ("quarantine", "quarantines", "quarantined", "q"),
    ObjectKind.RECORD: ("record", "records"),
    ObjectKind.POD: ("pod", "pods", "po"),
    ObjectKind.NAMESPACE: ("namespace", "namespaces", "ns"),
    ObjectKind.NODE: ("node", "nodes", "no"),
    ObjectKind.DEPLOYMENT: ("deployment", "deployments", "deploy"),
    ObjectKind.REPLICA_SET: ("replicaset", "replicasets", "rs"),
    ObjectKind.STATEFUL_SET: ("statefulset", "statefulsets", "sts"),
    ObjectKind.DAEMON_SET: ("daemonset", "daemonsets", "ds"),
    ObjectKind.JOB: ("job", "jobs"),
    ObjectKind.CRON_JOB: ("cronjob", "cronjobs", "cj"),
    ObjectKind.SERVICE: ("service", "services", "svc"),
    ObjectKind.SLICE: ("endpointslice", "endpointslices"),
    ObjectKind.COORDINATOR: (
        "coordinator",
        "coordinators",
        "spidercoordinator",
        "spidercoordinators",
        "scc",
    ),
    ObjectKind.APPLICATION: ("application", "applications", "app", "apps"),
    ObjectKind.ADDRESS: ("address", "addresses", "ip"),
}
"""Words for a kind: the singular first, then the plural."""

KIND_OF_WORD: Final = {word: kind for kind, words in _WORDS.items() for word in words}

WORKLOAD_KINDS: Final = {
    ObjectKind.DEPLOYMENT: "Deployment",
    ObjectKind.REPLICA_SET: "ReplicaSet",
    ObjectKind.STATEFUL_SET: "StatefulSet",
    ObjectKind.DAEMON_SET: "DaemonSet",
    ObjectKind.JOB: "Job",
    ObjectKind.CRON_JOB: "CronJob",
}
SERVICE_KINDS: Final = {ObjectKind.SERVICE: "Service", ObjectKind.SLICE: "EndpointSlice"}
RECORD_KINDS: Final = {
    ObjectKind.POD: "Pod",
    ObjectKind.NAMESPACE: "Namespace",
    ObjectKind.NODE: "Node",
    **WORKLOAD_KINDS,
    **SERVICE_KINDS,
    ObjectKind.COORDINATOR: COORDINATOR_KIND,
}
"""The kinds of records, each with the ``kind`` of its manifest."""

NAMESPACED_KINDS: Final = (ObjectKind.POD, *WORKLOAD_KINDS, *SERVICE_KINDS)

_ONE_OBJECT_REMEDY: Final = "name one object, such as `pool lan` or `pod shop/web-0`"
_SUBJECTS: Final = {
    ObjectKind.POOL: "pool",
    ObjectKind.SUBNET: "subnet",
    ObjectKind.RESERVATION: "reservation",
    ObjectKind.ENDPOINT: "pod",
    ObjectKind.POD: "pod",
    ObjectKind.NODE: "node",
    ObjectKind.APPLICATION: "application",
    ObjectKind.ADDRESS: "address",
    ObjectKind.QUARANTINE: "address",
}
"""Prefixes of subjects of ``orbctl history``."""


def plural(kind: ObjectKind) -> str:
    """The plural of a kind."""
    return _WORDS[kind][1]


def kind_of(word: str, allowed: tuple[ObjectKind, ...]) -> ObjectKind:
    """The kind that a word names. Raises BadInput."""
    kind = KIND_OF_WORD.get(word.lower())
    if kind in allowed:
        return kind
    words = ", ".join(_WORDS[allowed_kind][0] for allowed_kind in allowed)
    message = (
        f"kind {word[:64]!r} cannot be used with this command"
        if kind
        else f"there is no kind {word[:64]!r}"
    )
    raise BadInput(message, subject=word, remedy=f"use one of {words}")


def subject_name(words: Sequence[str], namespace: str) -> str:
    """The subject of ``orbctl history``. Raises BadInput.

    ``words``: KIND NAME, or a subject. ``namespace`` is used if NAME has none.
    """
    if len(words) == 1:
        return words[0]
    if len(words) > 2:
        raise BadInput(
            f"{' '.join(words)[:80]!r} names several objects",
            subject="subject",
            remedy=_ONE_OBJECT_REMEDY,
        )
    kind, name = kind_of(words[0], tuple({**_SUBJECTS, **RECORD_KINDS})), words[1]
    is_namespaced = kind in (*NAMESPACED_KINDS, ObjectKind.ENDPOINT, ObjectKind.APPLICATION)
    if is_namespaced and "/" not in name:
        name = f"{namespace}/{name}"
    subject = _SUBJECTS.get(kind)
    return f"{subject}/{name}" if subject else f"record/{RECORD_KINDS[kind]}/{name}"


def split_name(text: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of ``[pod/][NAMESPACE/]NAME``. Raises BadInput.

    ``namespace`` is used if ``text`` has none.
    """
    parts = text.split("/")
    if len(parts) > 1 and parts[0] in (*_WORDS[ObjectKind.POD], *_WORDS[ObjectKind.ENDPOINT]):
        parts = parts[1:]
    if len(parts) == 1:
        return namespace, parts[0]
    if len(parts) > 2:
        raise BadInput(f"{text[:80]!r} is not a name", subject=text, remedy="use NAMESPACE/NAME")
    return parts[0], parts[1]


def object_name(command: object) -> str:
    """``kind/name`` of a configuration command's object."""
    match command:
        case commands.ApplyPool(pool):
            return f"{ObjectKind.POOL}/{pool.name}"
        case commands.RetirePool(name) | commands.DeletePool(name) | commands.DropAutoPool(name):
            return f"{ObjectKind.POOL}/{name}"
        case commands.ApplyAutoPool(desired):
            return f"{ObjectKind.POOL}/{pool_name(desired.scope, desired.uid)}"
        case commands.ApplySubnet(subnet):
            return f"{ObjectKind.SUBNET}/{subnet.name}"
        case commands.RetireSubnet(name) | commands.DeleteSubnet(name):
            return f"{ObjectKind.SUBNET}/{name}"
        case commands.Reinstate(kind, name) | commands.AdvanceRetirement(kind, name):
            return f"{ObjectKind.POOL if kind == 'pool' else ObjectKind.SUBNET}/{name}"
        case commands.ApplyReservation(reservation):
            return f"{ObjectKind.RESERVATION}/{reservation.name}"
        case commands.DeleteReservation(name):
            return f"{ObjectKind.RESERVATION}/{name}"
        case (
            commands.QuarantineAddress(address)
            | commands.LiftQuarantine(address)
            | commands.ReturnAddress(address)
        ):
            return f"{ObjectKind.QUARANTINE}/{address}"
        case commands.ApplyRecord(record):
            return _record_name(record.kind, record.namespace, record.name)
        case commands.DeleteRecord(kind, namespace, name):
            return _record_name(kind, namespace, name)
        case _:
            raise AssertionError(f"not a configuration command: {command!r}")


def _record_name(kind: str, namespace: str, name: str) -> str:
    return f"{kind.lower()}/{namespace}/{name}" if namespace else f"{kind.lower()}/{name}"
