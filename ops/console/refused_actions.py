"""Logs refused actions of the console, but never a token or a body.

The number of lines is limited, so that a client cannot fill the log. The next line that is logged
has the number of refusals that were left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from core.errors import OrbweaverError

REFUSALS_LOGGED_MAX: Final = 20
"""Log lines in ``WINDOW_S``."""

WINDOW_S: Final = 60.0
FIELD_CHARS_MAX: Final = 256
"""Longer texts are cut."""

_log: Final = logging.getLogger(__name__)


class RefusedActions:
    """The log of refused actions."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._window_began = monotonic()
        self._logged = 0
        self._left_out = 0

    def note(self, request: web.Request, user: str, error: OrbweaverError) -> None:
        """Log or count a refusal. ``user``: "" if the request was not authenticated."""
        now = self._monotonic()
        if now - self._window_began >= WINDOW_S:
            self._window_began, self._logged = now, 0
        if self._logged == REFUSALS_LOGGED_MAX:
            self._left_out += 1
            return
        self._logged += 1
        workflow, _, action = request.path.rpartition("/")
        texts = {
            "user": user,
            "peer": request.remote or "",
            "action": action,
            "workflow": request.match_info.get("id", workflow),
            "error": type(error).__name__,
            "why": error.message,
        }
        fields = {name: text[:FIELD_CHARS_MAX] for name, text in texts.items()}
        left_out, self._left_out = self._left_out, 0
        _log.warning(
            "the console has refused an action", extra={"fields": {**fields, "left_out": left_out}}
        )
