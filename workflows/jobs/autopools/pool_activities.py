"""The activity that reconciles the automatic pools of one application.

An attempt stores no progress, because the pools show it. A step is decided again when it is
applied, so two concurrent workers create only one pool. The result is reported to the ADDs that
wait for the pool.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, TypeAlias

from core.allocation.pool_requests import PoolRequests, Problem, ReconcileReport
from core.configuration.command_scope import ScopeReader
from core.configuration.configurator import Configurator
from core.domain.autopools.application_plan import (
    ReconcileStep,
    named_subnets,
    plan_application,
    plan_deleted_application,
    refused_step,
)
from core.domain.autopools.applications import is_built_in, scale_of
from core.domain.autopools.pool_names import OWNER_UID, ApplicationKey, application_of
from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.configuration.configuration_state import (
    Configuration,
    FeatureSwitches,
    pool_addresses,
)
from core.domain.events import ApplicationScaled
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.model import Claim, Pool
from core.errors import LostRace, Refused
from core.eventstore.codec import EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.state_reader import read_claims
from core.projections.configuration_view import ConfigurationView
from workflows.api import activity
from workflows.jobs.autopools.applications import ApplicationsSource
from workflows.jobs.shard_writers import ShardWriters

PASSES_MAX: Final = 4
STEP_WORDS: Final = {
    "create": "created",
    "grow": "grew",
    "shrink": "shrank",
    "adopt": "adopted",
    "refresh": "refreshed",
    "delete": "deleted",
    "retire": "retired",
}
DONE_STEPS_MAX: Final = 64
SCALING_ACTIONS: Final = frozenset({"create", "grow", "shrink"})
"""Actions that the application's number of Pods causes."""

DONE: Final = "done"
UNCHANGED: Final = "unchanged"
Outcome: TypeAlias = str | ReconcileStep
"""``DONE``, ``UNCHANGED``, or the refused step with the reason."""


class ReconcileResult(NamedTuple):
    """Executed steps, and remaining differences from the desired pools."""

    position: int
    done: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Plan(NamedTuple):
    """The steps, and the revisions that were read (see ``ReconcileReport``)."""

    position: int
    changed_at: int
    scaled: ApplicationScaled | None
    steps: tuple[ReconcileStep, ...]


class PoolPlanner(NamedTuple):
    """The objects that the activity and the dispatcher share. The view must be running."""

    store: KeyValueStore
    keys: Keys
    source: ApplicationsSource
    view: ConfigurationView
    settings: AutoPoolSettings

    def configuration(self) -> Configuration:
        """The configuration in the view."""
        snapshot, settings = self.view.current, self.settings
        return Configuration(
            pools=snapshot.catalog,
            reservations=snapshot.reservations,
            quarantine=snapshot.quarantine,
            records=snapshot.records,
            ipv4_enabled=settings.ipv4_enabled,
            ipv6_enabled=settings.ipv6_enabled,
            subnets=snapshot.subnets,
        )


class AutoPoolActivities:
    """The activity of automatic pools."""

    def __init__(self, planner: PoolPlanner, writers: ShardWriters) -> None:
        self._planner = planner
        self._writers = writers
        self._requests = PoolRequests(planner.store, planner.keys)
        switches = FeatureSwitches(planner.settings.ipv4_enabled, planner.settings.ipv6_enabled)
        self._scopes = ScopeReader(planner.store, planner.keys, switches)
        self._changing = asyncio.Lock()

    @activity.defn(name="auto-pools-reconcile")
    async def reconcile(self, key: ApplicationKey) -> ReconcileResult:
        """Plan and apply until no step of a plan can be applied.

        Raises StoreUnavailable, OutcomeUnknown, LostRace, NotReady; a retry may succeed.
        """
        done: list[str] = []
        for _ in range(PASSES_MAX):
            position, changed_at, scaled, steps = await self._plan(key)
            applied = [(step, await self._apply(step, scaled)) for step in steps if step.command]
            done += [_description(step) for step, outcome in applied if outcome is DONE]
            refused = [outcome for _, outcome in applied if isinstance(outcome, ReconcileStep)]
            if len(refused) == len(applied):  # without a change, the next plan would be the same
                break
        else:
            raise LostRace(
                f"each of {PASSES_MAX} plans still had changes to make to the pools of {key};"
                " other requests may change these pools at the same time",
                subject=str(key),
            )
        remaining = [step for step in steps if not step.command] + refused
        result = ReconcileResult(
            position, tuple(done[:DONE_STEPS_MAX]), tuple(_problem(step) for step in remaining)
        )
        info = activity.info()
        await self._requests.report(
            ReconcileReport(result.position, info.workflow_id, key, result.problems, changed_at)
        )
        return result

    async def _plan(self, key: ApplicationKey) -> _Plan:
        planner, settings = self._planner, self._planner.settings
        # The request describes the application of an ADD that waits for a pool.
        requested, position = await self._requests.find(key)
        current = await planner.source.find(key)
        await planner.view.freshen()
        changed_at = planner.view.current.newest_guard_revision
        application = requested if isinstance(current, MissingOwner) else current
        # Reads only this application's objects: the cost must not grow with the cluster.
        configuration = await self._scopes.read_application(key, named_subnets(application))
        pools = [
            pool for pool in configuration.pools.values() if application_of(pool.labels) == key
        ]
        claimed = await self._claimed(pools)
        if isinstance(current, MissingOwner):
            if current.certain:  # otherwise the application may exist
                steps = steps_of_deleted_application(pools, configuration, claimed)
                return _Plan(position, changed_at, scaled=None, steps=steps)
            if requested is None or is_built_in(key):
                steps = _steps_of_unknown(current, an_add_waits=requested is not None)
                return _Plan(position, changed_at, scaled=None, steps=steps)
        assert application is not None, "neither the source nor a request describes the application"
        steps = plan_application(
            application, configuration, claimed, settings.default_number, enabled=settings.enabled
        )
        return _Plan(position, changed_at, scale_of(application), steps)

    async def _claimed(self, pools: list[Pool]) -> dict[str, Claim]:
        claimed: dict[str, Claim] = {}
        for pool in pools:
            addresses = pool_addresses(pool)
            claimed |= await read_claims(self._planner.store, self._planner.keys, addresses)
        return claimed

    async def _apply(self, step: ReconcileStep, scaled: ApplicationScaled | None) -> Outcome:
        assert step.command is not None, "only steps with a command are applied"
        planner, settings = self._planner, self._planner.settings
        # One step at a time: concurrent steps would lose races to each other.
        async with self._changing, self._writers.current_writer() as (writer, cause):
            configurator = Configurator(
                planner.store,
                planner.keys,
                writer,
                ipv4_enabled=settings.ipv4_enabled,
                ipv6_enabled=settings.ipv6_enabled,
            )
            observed = None
            if scaled is not None and step.action in SCALING_ACTIONS:
                observed = EventDraft(writer.event_id(), cause, scaled)
            try:
                applied = await configurator.apply(step.command, cause, observed)
            except Refused as error:
                return refused_step(step.pool, error, step.subnet)
        return DONE if applied.events else UNCHANGED


def steps_of_deleted_application(
    pools: list[Pool], configuration: Configuration, claimed: dict[str, Claim]
) -> tuple[ReconcileStep, ...]:
    """The steps for the pools of a deleted application. The pools may have several owner UIDs."""
    uids = sorted({pool.labels.get(OWNER_UID, "") for pool in pools})
    return tuple(
        step for uid in uids for step in plan_deleted_application(uid, configuration, claimed)
    )


def _steps_of_unknown(missing: MissingOwner, *, an_add_waits: bool) -> tuple[ReconcileStep, ...]:
    """A refusal for a waiting ADD, because the application was not found and may exist."""
    if not an_add_waits:
        return ()
    return (ReconcileStep("refuse", pool="", reason=missing.why, again=True),)


def _problem(step: ReconcileStep) -> Problem:
    return Problem(step.pool, step.subnet, step.reason, step.remedy, step.again)


def _description(step: ReconcileStep) -> str:
    return f"{STEP_WORDS[step.action]} {step.pool}: {step.reason}"
