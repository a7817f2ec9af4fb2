"""Reports the leader in a Lease of the API server, for people and tools.

The election uses etcd (docs/contributing/decisions/0017), so a leader that cannot write the Lease
stays the leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from typing import Final

from core.errors import ApiConflict, ApiError, ApiNotFound
from core.eventstore.election import RENEWALS_PER_TTL, LeaderTerm
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.settings import LeaseSettings

LEASES_PATH: Final = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
EPOCH_ANNOTATION: Final = "orbweaver.io/epoch"
"""The epoch of the leader's term; a later term has a higher epoch."""

RELEASE_S: Final = 2.0
"""The time limit of ``release``; the next leader does not wait for it."""

_log: Final = logging.getLogger(__name__)


class LeaseReport:
    """Keeps the Lease up to date during one term of a leader."""

    def __init__(self, api: Api, settings: LeaseSettings, term: LeaderTerm) -> None:
        self._api = api
        self._settings = settings
        self._term = term
        self._collection = LEASES_PATH.format(settings.namespace)

    async def run(self) -> None:
        """Renew the Lease until cancelled, then release it."""
        try:
            while True:
                await self._try_renew()
                await asyncio.sleep(self._settings.duration_s / RENEWALS_PER_TTL)
        finally:
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await self.release()

    async def renew(self) -> None:
        """Renew the Lease once. Raises ApiError."""
        lease = await self._read()
        now = _micro_time(self._api.server_clock_s)  # the time of the answer to ``_read``
        spec: Object = {
            "holderIdentity": self._term.name,
            "leaseDurationSeconds": self._settings.duration_s,
            "renewTime": now,
        }
        if lease is None:
            spec |= {"acquireTime": now, "leaseTransitions": 0}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
            metadata = {
                "name": self._settings.name,
                "annotations": {EPOCH_ANNOTATION: str(self._term.epoch)},
            }
            await self._api.create(self._collection, {**body, "metadata": metadata})
            return
        before = lease.get("spec") or {}
        if self._epoch(lease) > self._term.epoch:
            return  # a later term has renewed it already
        if self._epoch(lease) != self._term.epoch:
            transitions = int(before.get("leaseTransitions") or 0) + 1
            spec |= {"acquireTime": now, "leaseTransitions": transitions}
        await self._merge(lease, spec)

    async def release(self) -> None:
        """Clear the holder if this term was the last to renew the Lease. Raises ApiError."""
        lease = await self._read()
        if lease is not None and self._epoch(lease) == self._term.epoch:
            spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._merge(lease, {**spec, "renewTime": _micro_time(self._api.server_clock_s)})

    async def _try_renew(self) -> None:
        try:
            await self.renew()
        except ApiConflict:
            return  # another client has changed the Lease; the next renewal reads it again
        except ApiError as error:
            _log.warning(
                "Lease %s could not be updated, the leader continues: %s",
                self._settings.name,
                error,
            )

    async def _read(self) -> Object | None:
        try:
            return await self._api.get(f"{self._collection}/{self._settings.name}")
        except ApiNotFound:
            return None

    async def _merge(self, lease: Object, spec: Object) -> None:
        metadata = {
            "resourceVersion": lease["metadata"]["resourceVersion"],
            "annotations": {EPOCH_ANNOTATION: str(self._term.epoch)},
        }
        body = {"metadata": metadata, "spec": spec}
        await self._api.merge(f"{self._collection}/{self._settings.name}", body)

    @staticmethod
    def _epoch(lease: Object) -> int:
        text = (lease["metadata"].get("annotations") or {}).get(EPOCH_ANNOTATION, "")
        return int(text) if text.isascii() and text.isdigit() else 0


def is_held(lease: Object, now_s: float) -> bool:
    """Whether the Lease has a holder at ``now_s``, the Unix time of the API server."""
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity"):
        return False
    renewed = dt.datetime.fromisoformat(str(spec.get("renewTime") or "1970-01-01T00:00:00Z"))
    return now_s < renewed.timestamp() + float(spec.get("leaseDurationSeconds") or 0)


def _micro_time(now_s: float) -> str:
    text = dt.datetime.fromtimestamp(now_s, dt.UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
