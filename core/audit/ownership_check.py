"""Finds changes that an agent made to claims of another node.

All agents share one etcd role (``core.eventstore.roles``), so etcd cannot prevent such a change,
but the log shows it: every change of a claim or an endpoint has an event in the log of its
writer, and an agent's writer has the name of its node. Controllers and orbctl may change the claims
of every node. Pure; checks one segment at a time.

An event that an agent writes under the writer name of another agent is not found here. Such an
event fences the other agent, which then exits with an error.
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
"""The name of the violated rule in a report."""

_FORMER_CONTROLLERS: Final = re.compile(r"(jobs-[0-9a-f]{2}|orbctl-\d+|kubernetes|admission)\Z")
"""The writer names of controllers and orbctl in releases before ``CONTROLLER_WRITERS``."""


def foreign_changes(events: Sequence[Recorded], before: Ledger) -> list[Violation]:
    """The changes in one segment that an agent made to endpoints and GUIDs of another node.

    ``before``: the ledger before the segment. A release is allowed if the segment also has a claim
    of the same endpoint: a Pod takes over the addresses of the Pod with the same name that ran on
    another node before.
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
