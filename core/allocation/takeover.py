"""Carry out the plan of a takeover from another IPAM, such as Spiderpool's or Calico's.

The order: pools, claims, reservations, disabling of pools. A repeated step changes nothing: after
an interruption, run the takeover again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from core.allocation.assigner import Assigner
from core.configuration.configurator import Configurator
from core.domain.claims.takeover import TakeoverPlan
from core.domain.configuration.commands import Command
from core.domain.events import Cause
from core.domain.model import Endpoint
from core.errors import Refused

CLAIMING_MAX: Final = 128
"""Endpoints that are claimed at the same time. Their claims share transactions."""


class TakeoverResult(NamedTuple):
    """The numbers of commands and endpoints that changed the state, and the refusals."""

    commands: int
    endpoints: int
    refused: tuple[Refused, ...]


class TakeoverRun:
    """One takeover. ``on_progress``: called with the number of claimed endpoints and the total."""

    def __init__(
        self,
        configurator: Configurator,
        assigner: Assigner,
        cause: Cause,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._configurator = configurator
        self._assigner = assigner
        self._cause = cause
        self._refused: list[Refused] = []

    async def carry_out(self, plan: TakeoverPlan) -> TakeoverResult:
        """Apply all steps. A refused step does not stop the other steps.

        Raises StoreUnavailable, OutcomeUnknown, LostRace.
        """
        commands = await self._apply(plan.first)
        endpoints = await self._claim(plan.endpoints)
        commands += await self._apply(plan.last)
        return TakeoverResult(commands, endpoints, tuple(self._refused))

    async def _apply(self, commands: Iterable[Command]) -> int:
        changed = 0
        for command in commands:
            try:
                changed += bool((await self._configurator.apply(command, self._cause)).events)
            except Refused as error:
                self._refused.append(error)
        return changed

    async def _claim(self, endpoints: Sequence[Endpoint]) -> int:
        changed = 0
        for start in range(0, len(endpoints), CLAIMING_MAX):
            batch = endpoints[start : start + CLAIMING_MAX]
            calls = (self._assigner.assign(endpoint, self._cause) for endpoint in batch)
            for result in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(result, Refused):
                    self._refused.append(result)
                elif isinstance(result, BaseException):
                    raise result
                else:
                    changed += bool(result.revision)
            if self._on_progress is not None:
                self._on_progress(start + len(batch), len(endpoints))
        return changed
