"""Finds changes that an agent made to endpoints or GUIDs of another node.

etcd cannot prevent such changes, because all agents share one etcd role. The log shows them: every
event names its writer, and an agent's writer name is the name of its node. Controllers and orbctl
may change the endpoints of every node.

This check misses an event that an agent wrote under another agent's writer name. But such an event
fences the other agent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from core.domain.events import (
    AddressesClaimed,
    AddressesReleased,
    EndpointChanged,
    GuidsAssigned,
    Recorded,
)
from core.domain.evolution import Ledger
from core.domain.log_checker import Violation
from core.eventstore.keys import CONTROLLER_WRITERS

WRITER: Final = "writer"
"""The name of this rule in reports."""

_FORMER_CONTROLLERS: Final = re.compile(r"(jobs-[0-9a-f]{2}|orbctl-\d+|kubernetes|admission)\Z")
"""Writer names of controllers and orbctl in versions that had no ``CONTROLLER_WRITERS``."""


def foreign_changes(events: Sequence[Recorded], before: Ledger) -> list[Violation]:
    """The changes in one segment that an agent made to endpoints or GUIDs of another node.

    ``before``: the ledger before the segment. An agent may release an endpoint of another node if
    the segment also claims or changes the endpoint: a new Pod of the same name takes it over.
    """
    if not events or _is_controller(events[0].writer):
        return []
    changed_endpoints = {
        recorded.event.endpoint.key
        for recorded in events
        if isinstance(recorded.event, AddressesClaimed | EndpointChanged)
    }
    violations = []
    for recorded in events:
        event, what = recorded.event, "an endpoint"
        if isinstance(event, AddressesClaimed | EndpointChanged):
            key, node = event.endpoint.key, event.endpoint.node
        elif (
            isinstance(event, AddressesReleased)
            and (event.namespace, event.name) not in changed_endpoints
        ):
            key = (event.namespace, event.name)
            endpoint = before.endpoints.get(key)
            node = "" if endpoint is None else endpoint.node
        elif isinstance(event, GuidsAssigned):
            key, node, what = ("node", event.node), event.node, "GUIDs"
        else:
            continue
        if node and node != recorded.writer:
            text = f"an event of the agent on {recorded.writer} changes {what} of node {node}"
            violations.append(
                Violation(recorded.position, recorded.index_in_segment, WRITER, "/".join(key), text)
            )
    return violations


def _is_controller(writer: str) -> bool:
    return writer.startswith(CONTROLLER_WRITERS) or bool(_FORMER_CONTROLLERS.match(writer))
