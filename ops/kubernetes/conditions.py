"""Conditions and Events: what users are told about an object, in Kubernetes' conventions.

Pure. A condition is an observation with a reason for programs and a message for people; it keeps
its time as long as its status is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from core.domain.configuration.refusals import Refusal
from core.errors import BadInput, Refused
from core.kubernetes.api import Object

READY: Final = "Ready"
DRAINING: Final = "Draining"
TRANSLATED: Final = (READY, DRAINING)
"""The types that the translator writes."""

MESSAGE_CHARS_MAX: Final = 4_096
NOTE_CHARS_MAX: Final = 1_024
"""Of an Event; the API's own limit."""


class DesiredCondition(NamedTuple):
    """One condition as it should be. ``reason`` is CamelCase."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str


APPLIED: Final = DesiredCondition(READY, "True", "Applied", "what was asked for is in force")


def refused(error: Refused | BadInput) -> DesiredCondition:
    """Not ready, because a rule said no or the object cannot be read."""
    if isinstance(error, BadInput):
        return DesiredCondition(READY, "False", "Unreadable", _cut(str(error), MESSAGE_CHARS_MAX))
    first = next(one for one in error.refusals if isinstance(one, Refusal))
    return DesiredCondition(READY, "False", camel(first.rule), _cut(str(error), MESSAGE_CHARS_MAX))


def draining(message: str) -> tuple[DesiredCondition, DesiredCondition]:
    """On its way out: nothing new, and what is held stays held."""
    return (
        DesiredCondition(READY, "False", "Draining", message),
        DesiredCondition(DRAINING, "True", "InUse", message),
    )


def is_news(one: Object, wanted: DesiredCondition) -> bool:
    """Whether the object does not say so yet, of whatever generation."""
    return not any(
        (each["type"], each["status"], each["message"])
        == (wanted.type, wanted.status, wanted.message)
        for each in _conditions(one)
    )


def conditions(one: Object, wanted: Iterable[DesiredCondition], now: str) -> list[Object]:
    """The conditions as the API has them; ``now`` as RFC 3339."""
    since = {
        (each["type"], each["status"]): each["lastTransitionTime"] for each in _conditions(one)
    }
    return [
        {
            **each._asdict(),
            "lastTransitionTime": since.get((each.type, each.status), now),
            "observedGeneration": one["metadata"].get("generation", 0),
        }
        for each in wanted
    ]


def event(one: Object, observation: DesiredCondition, name: str, reporter: str, now: str) -> Object:
    """An Event about an object; those without a namespace have theirs in ``default``."""
    metadata = one["metadata"]
    namespace = metadata.get("namespace", "default")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": now,
        "type": "Normal" if observation.status == "True" else "Warning",
        "reason": observation.reason,
        "action": "Translate",
        "note": _cut(observation.message, NOTE_CHARS_MAX),
        "reportingController": "orbweaver.io/controller",
        "reportingInstance": reporter,
        "regarding": {
            "apiVersion": one["apiVersion"],
            "kind": one["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata["uid"],
        },
    }


def camel(slug: str) -> str:
    """``subnet-overlap`` as ``SubnetOverlap``."""
    return "".join(part.capitalize() for part in slug.split("-"))


def _conditions(one: Object) -> list[Object]:
    found: list[Object] = one.get("status", {}).get("conditions") or []
    return found


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."
