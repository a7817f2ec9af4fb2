"""Finds changes that an agent made to endpoints or GUIDs of another node.

All agents share one etcd role (``core.eventstore.roles``), so etcd cannot prevent such a change.
The log shows the change: every event names its writer, and an agent's writer name is the name of
the node. Controllers and orbctl may change the endpoints of every node. Pure; checks one segment at
a time.

This check does not find an event that an agent wrote under the writer name of another agent. Such
an event fences the other agent, which then exits with an error.
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
"""The name of this rule in a report of violations."""

_FORMER_CONTROLLERS: Final = re.compile(r"(jobs-[0-9a-f]{2}|orbctl-\d+|kubernetes|admission)\Z")
"""The writer names of controllers and orbctl in versions that had no ``CONTROLLER_WRITERS``."""


def foreign_changes(events: Sequence[Recorded], before: Ledger) -> list[Violation]:
    """The changes in one segment that an agent made to endpoints and GUIDs of another node.

    ``before``: the ledger before the segment. A release is allowed if the segment also has a claim
    of the same endpoint: the Pod then takes over the addresses of a deleted Pod with the same name,
    which ran on another node.
    """
    if not events or _is_controller(events[0].writer):
        return []
    claimed = {
        recorded.event.endpoint.key
        for recorded in events
        if isinstance(recorded.event, AddressesClaimed | EndpointChanged)
    }
    violations = []
    for recorded in events:
        event, what = recorded.event, "an endpoint"
        if isinstance(event, AddressesClaimed | EndpointChanged):
            key, node = event.endpoint.key, event.endpoint.node
        elif isinstance(event, AddressesReleased) and (event.namespace, event.name) not in claimed:
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
