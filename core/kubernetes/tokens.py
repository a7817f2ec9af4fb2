"""The ``Authorization`` header of requests. Error texts contain no tokens."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from pathlib import Path
from typing import Final, Protocol

TOKEN_FILE_S: Final = 60.0
"""A token file is read again after this time, because kubelet rotates the token."""


class NoAccess(OSError):
    """The credentials cannot be obtained. Callers handle an OSError as a failed connection."""


class TokenSource(Protocol):
    """Makes the ``Authorization`` header of a request."""

    async def authorization(self) -> str:
        """The header's value; "" for a request without the header. Raises NoAccess."""
        ...


class FixedHeader:
    """A constant header; "" for none."""

    def __init__(self, value: str = "") -> None:
        self._value = value

    async def authorization(self) -> str:
        """See ``TokenSource``."""
        return self._value


def basic_authorization(user: str, password: str) -> FixedHeader:
    """HTTP Basic authentication, which some proxies require."""
    return FixedHeader(f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")


class FileToken:
    """A token in a file that another process renews."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = ""
        self._read_at = float("-inf")

    async def authorization(self) -> str:
        """See ``TokenSource``. If a later read fails, the previous token is used."""
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
