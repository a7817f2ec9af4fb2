"""The request of one ADD, created by the server that receives it.

The functions on its path: ``serve_frame`` (the socket), ``answer_call`` (the bytes), ``handle_add``
(probes for conflicts, the result), ``serve_add`` (deadline, spans, counts, facts),
``allocate_or_wait`` (automatic pools), ``allocate``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.domain.events import Cause
from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.domain.selection.selection_request import SelectionRequest

HasHungUp = Callable[[], bool]
"""Returns whether the client of a request has closed its connection, according to the kernel."""


def never_hung_up() -> bool:
    """The value of ``has_hung_up`` for a request without a connection."""
    return False


class AddRequest(NamedTuple):
    """The Pod, its attachment and the requested pools. ``cause``: stored in the events."""

    pod: PodReference
    attachment: Attachment
    selection: SelectionRequest
    cause: Cause
    has_hung_up: HasHungUp = never_hung_up
