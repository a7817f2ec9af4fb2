"""The request of one ADD."""

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
    """The ``has_hung_up`` of a request without a connection."""
    return False


class AddRequest(NamedTuple):
    """An ADD of one attachment. Every event of the ADD stores ``cause``."""

    pod: PodReference
    attachment: Attachment
    selection: SelectionRequest
    cause: Cause
    has_hung_up: HasHungUp = never_hung_up
