"""One ADD request: the server that receives it creates it once, and every step reads it.

Its path, by name: ``serve_frame`` (the socket), ``answer_call`` (the bytes), ``handle_add`` (probes
for conflicts, the result), ``serve_add`` (deadline, spans, counts, facts), ``allocate_or_wait``
(automatic pools), ``allocate``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.domain.selection.request import SelectionRequest

HasHungUp = Callable[[], bool]
"""Returns whether the client of a request has closed its connection, according to the kernel."""


def never_hung_up() -> bool:
    """``has_hung_up`` of a request without a connection."""
    return False


class AddRequest(NamedTuple):
    """The Pod, its attachment and the pools it requests; ``cause`` is stored in its events."""

    pod: PodReference
    attachment: Attachment
    selection: SelectionRequest
    cause: Cause
    has_hung_up: HasHungUp = never_hung_up
