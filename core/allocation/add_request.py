"""One ADD, as every step of its path sees it: the server that receives it makes it, once.

Its path, by name: ``serve_frame`` (the socket), ``answer_call`` (the bytes), ``handle_add`` (probes
for conflicts, the result), ``serve_add`` (deadline, spans, counts, facts), ``allocate_or_wait``
(automatic pools), ``allocate``. It holds no rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.domain.events import Cause
from core.domain.facts import PodReference
from core.domain.model import Attachment
from core.domain.selection.request import SelectionRequest

HasHungUp = Callable[[], bool]
"""Asks the kernel whether the caller of a request has closed its connection."""


def never_hung_up() -> bool:
    """For requests that come over no connection."""
    return False


class AddRequest(NamedTuple):
    """Which Pod asks, for which attachment, from which pools; ``cause`` goes into its events."""

    pod: PodReference
    attachment: Attachment
    selection: SelectionRequest
    cause: Cause
    has_hung_up: HasHungUp = never_hung_up
