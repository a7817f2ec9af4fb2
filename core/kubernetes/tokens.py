"""The ``Authorization`` header of requests: a constant, or made of a token in a file.

kubelet rotates the token in a service account's file, so the file is read every ``TOKEN_FILE_S``.
Error texts contain no tokens.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from pathlib import Path
from typing import Final, Protocol

TOKEN_FILE_S: Final = 60.0
"""Seconds between two reads of a token file."""


class NoAccess(OSError):
    """The credentials cannot be obtained. Callers handle an OSError as a failed connection."""


class TokenSource(Protocol):
    """Returns the ``Authorization`` header for a request."""

    async def authorization(self) -> str:
        """The header's value; "" for a request without the header. Raises NoAccess."""
        ...


class FixedToken:
    """A constant header; "" if a client certificate or no identity is used."""

    def __init__(self, value: str = "") -> None:
        self._value = value

    async def authorization(self) -> str:
        """See ``TokenSource``."""
        return self._value


def basic(user: str, password: str) -> FixedToken:
    """HTTP Basic authentication, which some proxies in front of API servers require."""
    return FixedToken(f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")


class FileToken:
    """A token in a file that another process renews."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = ""
        self._read_at = float("-inf")

    async def authorization(self) -> str:
        """See ``TokenSource``. If a later read of the file fails, the previous token is used."""
        if time.monotonic() - self._read_at >= TOKEN_FILE_S:
            try:
                token = await asyncio.to_thread(self._path.read_text)
            except OSError as error:
                token = ""
                if not self._value:
                    raise NoAccess(
                        f"the token file {self._path} cannot be read: {error.strerror}"
                    ) from None
            if token.strip():
                self._value = f"Bearer {token.strip()}"
            if not self._value:
                raise NoAccess(f"the token file {self._path} is empty")
            self._read_at = time.monotonic()
        return self._value
