"""The request of one ADD, created by the server that receives it.

The request passes through ``serve_frame``, ``answer_call``, ``handle_add``, ``allocate_addresses``,
``allocate_or_wait`` and ``allocate``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.domain.events import Cause
from core.domain.model import Attachment
from core.domain.request_facts import PodReference
from core.domain.selection.selection_request import SelectionRequest

HasHungUp = Callable[[], bool]
"""Returns whether the client has closed the connection of the request."""


def never_hung_up() -> bool:
    """The value of ``has_hung_up`` for a request without a connection."""
    return False


class AddRequest(NamedTuple):
    """The Pod, the attachment and the requested pools. The events store ``cause``."""

    pod: PodReference
    attachment: Attachment
    selection: SelectionRequest
    cause: Cause
    has_hung_up: HasHungUp = never_hung_up
