"""Work that goes on as long as the agent does, and that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

_log: Final = logging.getLogger(__name__)


def tell_end(task: asyncio.Future[Any], words: str) -> None:
    """Let the log say ``words`` and why, should this work end by a failure: that is a bug."""

    def tell(ended: asyncio.Future[Any]) -> None:
        if not ended.cancelled() and ended.exception() is not None:
            _log.critical("%s", words, exc_info=ended.exception())

    task.add_done_callback(tell)
