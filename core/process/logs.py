"""The log of a process: one JSON object per line on standard error.

``extra={"fields": {...}}`` adds members to a line. Never log a secret.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from functools import lru_cache
from math import modf
from typing import Final, TextIO

import msgspec

from core.process.tracing import log_fields

LOG_LEVELS: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}

CACHED_SECONDS_MAX: Final = 16


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a newline."""
        line: dict[str, object] = {
            "level": record.levelname,
            "ts": timestamp(record.created),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= log_fields()
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def timestamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, with milliseconds."""
    fraction, whole = modf(seconds)
    # Rounding may give 1,000,000 microseconds: a whole second.
    extra_second, microseconds = divmod(round(fraction * 1_000_000), 1_000_000)
    return f"{_second_text(int(whole) + extra_second)}.{microseconds // 1_000:03d}Z"


@lru_cache(maxsize=CACHED_SECONDS_MAX)
def _second_text(whole: int) -> str:
    return dt.datetime.fromtimestamp(whole, dt.UTC).isoformat().removesuffix("+00:00")


def set_up_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Write log records of at least this level to the stream, as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=LOG_LEVELS[level], handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
