"""Needs and reports: what agents and controllers tell each other about automatic pools.

An agent whose ADD cannot be served writes a need; whoever looks at the application for it writes a
report of what was found. Both are hints on leases: a lost one costs time and never an address, and
neither is on the path of an ADD that can be served (I8). Nothing here decides.

    need/<application>               what a Pod says of the application; rewritten by every ADD
    view/application/<application>   the report, as of the revision that was looked at
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from core.domain.autopools.applications import Application
from core.domain.autopools.names import ApplicationKey
from core.errors import LogCorrupt
from core.eventstore.codec import StateCodec
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind
from core.eventstore.kv import Get, KeyValueStore, Put

NEED_TTL_S: Final = 60
"""Longer than an ADD waits; a controller that starts within it still hears of the need."""

REPORT_TTL_S: Final = 900
"""An application that waits is looked at more often than that."""

PROBLEM_CHARS_MAX: Final = 1_000
"""Of one reason or remedy."""

PROBLEMS_MAX: Final = 64
"""Of one report."""


class Problem(NamedTuple):
    """Why a pool is not as it should be. ``again``: it may pass without a person's help.

    ``pool`` "" when it does not exist; ``subnet``: where addresses were looked for in vain.
    """

    pool: str
    subnet: str
    reason: str
    remedy: str = ""
    again: bool = False

    def __str__(self) -> str:
        where = f"IPPool {self.pool}: " if self.pool else ""
        return where + self.reason


class ReconcileReport(NamedTuple):
    """What a look found; without problems everything is as it should be.

    ``position``: the revision looked at, ``configuration``: that of the newest change of the
    configuration then. ``workflow``: the execution that looks again.
    """

    position: int
    workflow: str
    key: ApplicationKey
    problems: tuple[Problem, ...] = ()
    configuration: int = 0


NEED: Final = StateCodec(Application)
REPORT: Final = StateCodec(ReconcileReport)

_NEED_REMEDY: Final = "nothing: it ends with its lease, and the Pod's next ADD writes another"
_REPORT_REMEDY: Final = "nothing: it ends with its lease, and a controller writes another"
NEEDS: Final[KeyKind[Application]] = KeyKind(
    *("need", "need", NEED.decode, ("controller", "worker"), _NEED_REMEDY),
    key_of=lambda keys, application: keys.need(str(application.key)),
)
REPORTS: Final[KeyKind[ReconcileReport]] = KeyKind(
    *("application view", "view/application", REPORT.decode, ("agent", "controller")),
    _REPORT_REMEDY,
    key_of=lambda keys, report: keys.application_view(str(report.key)),
)


class PoolRequests:
    """Writes and reads both."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def tell(self, application: Application) -> int:
        """Say that an ADD waits; the revision of that. Raises StoreUnavailable, OutcomeUnknown."""
        lease = await self._store.grant_lease(NEED_TTL_S)
        put = Put(self._keys.need(str(application.key)), NEED.encode(application), lease)
        return (await self._store.commit([], [put])).revision

    async def told(self, key: ApplicationKey) -> tuple[Application | None, int]:
        """What Pods say of the application, if one waits, and the revision read at.

        Raises StoreUnavailable.
        """
        result = await self._store.read([Get(self._keys.need(str(key)))])
        found = result.ranges[0].kvs
        return (NEED.decode(found[0].value) if found else None), result.revision

    async def report(self, report: ReconcileReport) -> None:
        """Say what a look found. Raises StoreUnavailable, OutcomeUnknown."""
        problems = tuple(
            one._replace(
                reason=one.reason[:PROBLEM_CHARS_MAX], remedy=one.remedy[:PROBLEM_CHARS_MAX]
            )
            for one in report.problems[:PROBLEMS_MAX]
        )
        lease = await self._store.grant_lease(REPORT_TTL_S)
        key = self._keys.application_view(str(report.key))
        value = REPORT.encode(report._replace(problems=problems))
        await self._store.commit([], [Put(key, value, lease)])

    async def reports(
        self, key: ApplicationKey, after: int
    ) -> AsyncGenerator[ReconcileReport, None]:
        """Every report from now on that looked at revision ``after`` or a newer one.

        Raises Compacted.
        """
        name = self._keys.application_view(str(key))
        async for batch in self._store.watch([(name, name + b"\0")], after=after):
            for change in batch.changes:
                report = read_report(change.value)
                if report is not None and report.position >= after:
                    yield report


def read_report(value: bytes | None) -> ReconcileReport | None:
    """A report, None when it is gone or of another version: it is a hint."""
    if value is None:
        return None
    try:
        return REPORT.decode(value)
    except LogCorrupt:
        return None
