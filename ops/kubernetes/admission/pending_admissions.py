"""Admits pools and subnets one at a time, and stores each admission until the log has the object.

A review is validated against the log and the pending admissions, so that no conflicting object is
admitted while the translator lags. If another replica stores an admission during a review, the
review is validated again (``AdmissionStore.add``).

Conflicts are still possible if ``orbctl apply`` or an automatic pool writes to the log without a
review, or if an object is stored later than ``STORING_S_MAX`` after its review. The second
object then gets Ready=False.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from core.configuration.admission_records import AdmissionSnapshot, AdmissionStore
from core.configuration.configurator import Configurator
from core.domain.configuration.admissions import (
    AdmissionConflict,
    PendingAdmission,
    admitted_value,
    extent_of,
)
from core.domain.configuration.commands import ApplyPool, ApplySubnet, Command
from core.domain.model import Pool, Subnet
from core.domain.validation.normalization import normalise_network
from core.errors import BadInput, OrbweaverError, Refusal, Refused
from core.eventstore.retry_policies import retry_lost_races
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.admission.reviews import AdmissionRequest
from ops.kubernetes.translated_kinds import TranslatedKind, command_of

STORING_S_MAX: Final = 75.0
"""The longest time from review to storage: the API server's timeout, 60 s, and a margin."""

SWEEP_S: Final = 10.0

SWEPT_MAX: Final = 100
"""Each pending admission may need a request to the API server."""

_KINDS: Final = {"pool": TranslatedKind.POOL, "subnet": TranslatedKind.SUBNET}
_log: Final = logging.getLogger(__name__)


class Admitter:
    """Admits pools and subnets in one replica."""

    def __init__(self, api: Api, configurator: Configurator, admissions: AdmissionStore) -> None:
        self._api = api
        self._configurator = configurator
        self._admissions = admissions
        self._lock = asyncio.Lock()
        self._next_sweep_begin = 0

    async def run(self) -> None:
        """Delete completed admissions until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except OrbweaverError as error:
                _log.warning(
                    "completed admissions could not be deleted; trying again in %g s: %s",
                    SWEEP_S,
                    error,
                )

    async def sweep(self) -> None:
        """Delete admissions whose object is in the log or was never stored.

        Each call continues with the next ``SWEPT_MAX`` admissions.
        """
        admissions = (await self._admissions.read()).admissions
        begin = self._next_sweep_begin if self._next_sweep_begin < len(admissions) else 0
        pending = admissions[begin : begin + SWEPT_MAX]
        self._next_sweep_begin = begin + len(pending)
        in_log = {admission.review for admission in await self._admissions.in_log(pending)}
        for admission in pending:
            if admission.review in in_log or not await self._is_pending(admission):
                await self._admissions.remove(admission)

    async def admit(self, admission_request: AdmissionRequest, command: Command) -> None:
        """Admit the object. A dry run stores no admission.

        Raises Refused, StoreError, ApiError, LostRace, NotReady.
        """
        while True:
            conflicts: tuple[AdmissionConflict, ...] = await retry_lost_races()(
                self._conflicts, admission_request, command
            )
            for conflict in conflicts:
                if await self._is_pending(conflict.admission):
                    raise Refused(tuple(map(_explain, conflict.refusals)))
                await self._admissions.remove(conflict.admission)
            if not conflicts:
                return

    async def _conflicts(
        self, admission_request: AdmissionRequest, command: Command
    ) -> tuple[AdmissionConflict, ...]:
        """Store the admission if there is no conflict; return the conflicts."""
        async with self._lock:
            pending = await self._admissions.read()
            result = await self._configurator.dry_run_with_pending(command, pending.admissions)
            value = admitted_value(command, result.events)
            if value is not None and not result.conflicts and not admission_request.dry_run:
                await self._store(admission_request, value, pending)
        return result.conflicts

    async def _store(
        self, admission_request: AdmissionRequest, value: Pool | Subnet, since: AdmissionSnapshot
    ) -> None:
        """Raises LostRace if an admission was stored after ``since``."""
        metadata = admission_request.object["metadata"]
        admission = PendingAdmission(
            review=admission_request.uid,
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 1),
            admitted_at_s=self._api.server_clock_s,
            pool=value if isinstance(value, Pool) else None,
            subnet=value if isinstance(value, Subnet) else None,
        )
        await self._admissions.add(admission, since)

    async def _is_pending(self, admission: PendingAdmission) -> bool:
        """Whether the API server has the admitted object, or may still store it."""
        stored = await self._api.find(_KINDS[admission.kind].path(admission.value.name))
        is_recent = self._api.server_clock_s - admission.admitted_at_s < STORING_S_MAX
        if stored is None or stored["metadata"]["uid"] != admission.uid:
            return is_recent
        if _has_extent(stored, admission):
            return True
        return stored["metadata"]["generation"] < admission.generation and is_recent


def _has_extent(stored: Object, admission: PendingAdmission) -> bool:
    """Whether the object has the admitted family, subnet and addresses."""
    try:
        command = command_of(stored)
    except (BadInput, Refused):
        return False
    match command:
        case ApplyPool(pool):
            return extent_of(normalise_network(pool)) == extent_of(admission.value)
        case ApplySubnet(subnet):
            return extent_of(normalise_network(subnet)) == extent_of(admission.value)
        case _:
            return False


def _explain(refusal: Refusal) -> Refusal:
    remedy = f"{refusal.remedy}; that object was admitted and is not applied yet"
    return refusal._replace(remedy=remedy.removeprefix("; "))
