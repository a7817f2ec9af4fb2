"""A DEL waits for the ADDs of its container that are under way.

A runtime gives up on an ADD and sends a DEL while that ADD's transaction may still be on its way; a
DEL that looked too early would find nothing, and the address would be held for nobody. ADDs do not
wait for each other: their guards settle who comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class ContainerOrder:
    """Knows the containers that ADDs are under way for."""

    def __init__(self) -> None:
        self._adding: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    @contextmanager
    def adding(self, container: str) -> Iterator[None]:
        """While an ADD for the container is under way."""
        self._adding[container] = self._adding.get(container, 0) + 1
        try:
            yield
        finally:
            left = self._adding[container] - 1
            if left:
                self._adding[container] = left
            else:
                del self._adding[container]
                waiting = self._waiting.pop(container, None)
                if waiting is not None:
                    waiting.set()

    async def added(self, container: str) -> None:
        """Return once no ADD for the container is under way."""
        while container in self._adding:
            await self._waiting.setdefault(container, asyncio.Event()).wait()
