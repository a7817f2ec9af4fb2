"""Makes conditions and Events of an object, by the conventions of the Kubernetes API. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from core.errors import BadInput, Refused
from core.kubernetes.api_client import Object

READY_TYPE: Final = "Ready"
DRAINING_TYPE: Final = "Draining"
TRANSLATOR_CONDITIONS: Final = (READY_TYPE, DRAINING_TYPE)

MESSAGE_CHARS_MAX: Final = 4_096
NOTE_CHARS_MAX: Final = 1_024
"""The limit of the API for the note of an Event."""


class DesiredCondition(NamedTuple):
    """A condition that an object must have. ``reason`` is in CamelCase."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str


APPLIED_CONDITION: Final = DesiredCondition(READY_TYPE, "True", "Applied", "the spec was applied")


def refusal_condition(error: Refused | BadInput) -> DesiredCondition:
    """The condition of a refused or unreadable object."""
    if isinstance(error, BadInput):
        return DesiredCondition(
            READY_TYPE, "False", "Unreadable", _cut(str(error), MESSAGE_CHARS_MAX)
        )
    return DesiredCondition(
        READY_TYPE, "False", camel(error.refusals[0].rule), _cut(str(error), MESSAGE_CHARS_MAX)
    )


def is_refused(body: Object) -> bool:
    """Whether the condition Ready says that the spec was refused."""
    return any(
        (condition["type"], condition["status"]) == (READY_TYPE, "False")
        and condition["reason"] != DRAINING_TYPE
        for condition in _conditions(body)
    )


def draining_conditions(message: str) -> tuple[DesiredCondition, DesiredCondition]:
    """The conditions of an object that is being deleted while in use."""
    return (
        DesiredCondition(READY_TYPE, "False", DRAINING_TYPE, message),
        DesiredCondition(DRAINING_TYPE, "True", "InUse", message),
    )


def is_new(body: Object, desired: DesiredCondition) -> bool:
    """Whether the object lacks a condition with this type, status and message."""
    return not any(
        (condition["type"], condition["status"], condition["message"])
        == (desired.type, desired.status, desired.message)
        for condition in _conditions(body)
    )


def conditions(body: Object, desired: Iterable[DesiredCondition], now: str) -> list[Object]:
    """The conditions as API objects. ``now``: RFC 3339.

    ``lastTransitionTime`` changes only with the status of a condition.
    """
    since = {
        (condition["type"], condition["status"]): condition["lastTransitionTime"]
        for condition in _conditions(body)
    }
    return [
        {
            **condition._asdict(),
            "lastTransitionTime": since.get((condition.type, condition.status), now),
            "observedGeneration": body["metadata"].get("generation", 0),
        }
        for condition in desired
    ]


def event(body: Object, condition: DesiredCondition, name: str, reporter: str, now: str) -> Object:
    """An Event about an object. Events of cluster-scoped objects are in ``default``."""
    metadata = body["metadata"]
    namespace = metadata.get("namespace", "default")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": now,
        "type": "Normal" if condition.status == "True" else "Warning",
        "reason": condition.reason,
        "action": "Translate",
        "note": _cut(condition.message, NOTE_CHARS_MAX),
        "reportingController": "orbweaver.io/controller",
        "reportingInstance": reporter,
        "regarding": {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
        },
    }


def camel(slug: str) -> str:
    """A slug in CamelCase: ``subnet-overlap`` as ``SubnetOverlap``."""
    return "".join(part.capitalize() for part in slug.split("-"))


def _conditions(body: Object) -> list[Object]:
    stored: list[Object] = body.get("status", {}).get("conditions") or []
    return stored


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."
