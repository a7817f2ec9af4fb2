"""Admit pools and subnets one at a time, and remember each until the log has it.

A review is judged on the log and on what was admitted before it and the log still lacks, so a
translator that lags, or that does not run, lets no second object in. Within a replica reviews take
turns; between replicas the second one to be admitted is judged again (``Admissions.add``). What
remains: ``orbctl apply`` and automatic pools write to the log without a review, and an object that
the API server stores later than ``STORING_S_MAX`` after its review is no longer counted. Of two
such objects the log takes the first; the other reports Ready=False.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.configuration.configurator import Configurator
from core.configuration.pending_admissions import Admissions, PendingAdmissions
from core.domain.configuration.admissions import (
    AdmissionConflict,
    PendingAdmission,
    admitted_value,
    extent_of,
)
from core.domain.configuration.commands import ApplyPool, ApplySubnet, Command
from core.domain.configuration.refusals import Refusal
from core.domain.model import Pool, Subnet
from core.domain.validation.normalization import normalise_pool, normalise_subnet
from core.errors import BadInput, OrbweaverError, Refused
from core.eventstore.retry_policies import racing
from core.kubernetes.api import Api, Object
from ops.kubernetes.admission.reviews import AdmissionRequest
from ops.kubernetes.resources import TranslatedKind, command_of

STORING_S_MAX: Final = 75.0
"""From a review to the object in the API server: its request timeout of 60 s, and clocks."""

SWEEP_S: Final = 10.0
"""Between two looks for pending admissions that are over."""

SWEPT_MAX: Final = 100
"""Pending admissions of one look, each a request to the API server at most."""

_KINDS: Final = {"pool": TranslatedKind.POOL, "subnet": TranslatedKind.SUBNET}
_log: Final = logging.getLogger(__name__)


class Admitter:
    """Judges the pools and subnets of one replica's reviews; run it beside for the sweep."""

    def __init__(self, api: Api, configurator: Configurator, admissions: Admissions) -> None:
        self._api = api
        self._configurator = configurator
        self._admissions = admissions
        self._turn = asyncio.Lock()
        self._swept = 0

    async def run(self) -> None:
        """Delete pending admissions that are over, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except OrbweaverError as error:
                _log.warning("pending admissions could not be read: %s", error)

    async def sweep(self) -> None:
        """Delete those that the log has, and those whose object was not stored.

        Looks at ``SWEPT_MAX`` of them, the next ones each time.
        """
        known = (await self._admissions.read()).admissions
        begin = self._swept if self._swept < len(known) else 0
        pending = known[begin : begin + SWEPT_MAX]
        self._swept = begin + len(pending)
        arrived = {one.review for one in await self._admissions.in_log(pending)}
        for one in pending:
            if one.review in arrived or not await self._counts(one):
                await self._admissions.remove(one)

    async def admit(self, question: AdmissionRequest, command: Command) -> None:
        """Admit the object, and remember it unless the review is a dry run.

        Raises Refused, StoreError, ApiError, LostRace, NotReady.
        """
        while True:
            conflicts: tuple[AdmissionConflict, ...] = await racing()(
                self._conflicts, question, command
            )
            for one in conflicts:
                if await self._counts(one.admission):
                    raise Refused(tuple(map(_explained, one.refusals)))
                await self._admissions.remove(one.admission)
            if not conflicts:
                return

    async def _conflicts(
        self, question: AdmissionRequest, command: Command
    ) -> tuple[AdmissionConflict, ...]:
        """What forbids the object; nothing: it is admitted and remembered."""
        async with self._turn:
            pending = await self._admissions.read()
            found = await self._configurator.dry_run_beside(command, pending.admissions)
            value = admitted_value(command, found.events)
            if value is not None and not found.conflicts and not question.dry_run:
                await self._remember(question, value, pending)
        return found.conflicts

    async def _remember(
        self, question: AdmissionRequest, value: Pool | Subnet, since: PendingAdmissions
    ) -> None:
        metadata = question.object["metadata"]
        admission = PendingAdmission(
            question.uid,
            metadata.get("uid", ""),
            metadata.get("generation", 1),
            self._api.clock_s,
            value if isinstance(value, Pool) else None,
            value if isinstance(value, Subnet) else None,
        )
        await self._admissions.add(admission, since)

    async def _counts(self, one: PendingAdmission) -> bool:
        """Whether the API server has the object as it was admitted, or may have it still."""
        live = await self._api.find(_KINDS[one.kind].path(one.value.name))
        is_recent = self._api.clock_s - one.admitted_at_s < STORING_S_MAX
        if live is None or live["metadata"]["uid"] != one.uid:
            return is_recent
        if _says(live, one):
            return True
        return live["metadata"]["generation"] < one.generation and is_recent


def _says(live: Object, one: PendingAdmission) -> bool:
    """Whether the stored object has the extent that was admitted."""
    try:
        command = command_of(live)
    except (BadInput, Refused):
        return False
    match command:
        case ApplyPool(pool):
            return extent_of(normalise_pool(pool)) == extent_of(one.value)
        case ApplySubnet(subnet):
            return extent_of(normalise_subnet(subnet)) == extent_of(one.value)
        case _:
            return False


def _explained(refusal: object) -> Refusal:
    assert isinstance(refusal, Refusal), refusal
    remedy = f"{refusal.remedy}; it was admitted and is not in force yet"
    return refusal._replace(remedy=remedy.removeprefix("; "))
