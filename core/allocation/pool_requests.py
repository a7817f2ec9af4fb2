"""Requests for automatic pools, written by agents, and reports, written by controllers.

The keys have leases; if a key is lost, an ADD waits longer.

    need/<application>               the request: the application of a Pod
    view/application/<application>   the report of the newest reconcile
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey
from core.errors import LogCorrupt
from core.eventstore.codec import KeyKind, StateCodec
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Put, watch_value

POOL_REQUEST_TTL_S: Final = 60
"""Longer than an ADD waits, so that a controller that starts meanwhile can read the request."""

REPORT_TTL_S: Final = 900
"""Longer than the time between two reconciles of an application that waits for addresses."""

PROBLEM_CHARS_MAX: Final = 1_000
"""The longest reason or remedy."""

PROBLEMS_MAX: Final = 64


class Problem(NamedTuple):
    """Why a pool differs from the desired pool. ``again``: a retry may help.

    ``pool``: "" if the pool does not exist. ``subnet``: the SpiderSubnet that has too few free
    addresses.
    """

    pool: str
    subnet: str
    reason: str
    remedy: str = ""
    again: bool = False

    def __str__(self) -> str:
        return f"IPPool {self.pool}: {self.reason}" if self.pool else self.reason


class ReconcileReport(NamedTuple):
    """The result of a reconcile; without ``problems`` the pools are as desired.

    ``position``: the revision of etcd whose state was reconciled. ``configuration``: the revision
    of the newest change of the configuration at that time.
    """

    position: int
    workflow: str
    key: ApplicationKey
    problems: tuple[Problem, ...] = ()
    configuration: int = 0


POOL_REQUEST_CODEC: Final = StateCodec(Application)
REPORT_CODEC: Final = StateCodec(ReconcileReport)

_POOL_REQUEST_REMEDY: Final = (
    "etcd deletes the key by itself when its lease ends, and the Pod's next ADD writes a new one"
)
_REPORT_REMEDY: Final = (
    "etcd deletes the key by itself when its lease ends, and a controller writes a new report"
)
POOL_REQUEST_KEYS: Final[KeyKind[Application]] = KeyKind(
    name="need",
    prefix="need",
    decode=POOL_REQUEST_CODEC.decode,
    readers=("controller", "worker"),
    remedy=_POOL_REQUEST_REMEDY,
    key_of=lambda keys, application: keys.pool_request(str(application.key)),
)
REPORT_KEYS: Final[KeyKind[ReconcileReport]] = KeyKind(
    name="application view",
    prefix="view/application",
    decode=REPORT_CODEC.decode,
    readers=("agent", "controller"),
    remedy=_REPORT_REMEDY,
    key_of=lambda keys, report: keys.application_view(str(report.key)),
)


class PoolRequests:
    """Requests and reports in etcd."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def put(self, application: Application) -> int:
        """Write the request; returns its revision. Raises StoreUnavailable, OutcomeUnknown."""
        lease = await self._store.grant_lease(POOL_REQUEST_TTL_S)
        put = Put(
            self._keys.pool_request(str(application.key)),
            POOL_REQUEST_CODEC.encode(application),
            lease,
        )
        return (await self._store.commit([], [put])).revision

    async def find(self, key: ApplicationKey) -> tuple[Application | None, int]:
        """The request (None: no request) and the revision of the read. Raises StoreUnavailable."""
        result = await self._store.read([Get(self._keys.pool_request(str(key)))])
        kvs = result.ranges[0].kvs
        return (POOL_REQUEST_CODEC.decode(kvs[0].value) if kvs else None), result.revision

    async def report(self, report: ReconcileReport) -> None:
        """Write the result of a reconcile. Raises StoreUnavailable, OutcomeUnknown."""
        problems = tuple(
            problem._replace(
                reason=problem.reason[:PROBLEM_CHARS_MAX], remedy=problem.remedy[:PROBLEM_CHARS_MAX]
            )
            for problem in report.problems[:PROBLEMS_MAX]
        )
        lease = await self._store.grant_lease(REPORT_TTL_S)
        key = self._keys.application_view(str(report.key))
        value = REPORT_CODEC.encode(report._replace(problems=problems))
        await self._store.commit([], [Put(key, value, lease)])

    async def reports(
        self, key: ApplicationKey, after: int
    ) -> AsyncGenerator[ReconcileReport, None]:
        """Yield each report of a reconcile at revision ``after`` or later. Raises Compacted."""
        async for value in watch_value(self._store, self._keys.application_view(str(key))):
            report = read_report(value)
            if report is not None and report.position >= after:
                yield report


def read_report(value: bytes | None) -> ReconcileReport | None:
    """Decode a report; None if the key was deleted or the value cannot be decoded."""
    if value is None:
        return None
    try:
        return REPORT_CODEC.decode(value)
    except LogCorrupt:
        return None
