"""The activity of automatic pools: make the pools of one application what they should be.

It looks and acts in one go and remembers nothing: what an attempt before it has done is simply so.
Every step is a command that is decided anew under guards when it is carried out, so two workers at
the same application make one pool, and the share of the subnet is the pool (one transaction). What
it found is reported to the ADDs that wait for it.
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
    plan_departure,
    refused_step,
)
from core.domain.autopools.applications import is_built_in
from core.domain.autopools.names import OWNER_UID, ApplicationKey, application_of
from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.configuration.configuration_state import (
    Configuration,
    FeatureSwitches,
    pool_addresses,
)
from core.domain.fixed.owners import MissingOwner
from core.domain.model import Claim, Pool
from core.errors import LostRace, Refused
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.state import read_claims
from core.projections.configuration_view import ConfigurationView
from workflows.api import activity
from workflows.jobs.autopools.applications import ApplicationsSource
from workflows.jobs.writers import ShardWriters

PASSES_MAX: Final = 4
"""Plans of one look: others may take addresses between a plan and its steps."""

STEP_WORDS: Final = {
    "create": "created",
    "grow": "grew",
    "shrink": "shrank",
    "adopt": "adopted",
    "refresh": "refreshed",
    "delete": "deleted",
    "retire": "retired",
}
DONE_MAX: Final = 64
"""Steps that a result tells."""


DONE: Final = "done"
SO_ALREADY: Final = "so already"
Outcome: TypeAlias = str | ReconcileStep


class ReconcileResult(NamedTuple):
    """What a look did, and what is not as it should be (see ``ReconcileReport``)."""

    position: int
    done: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


class PoolPlanner(NamedTuple):
    """Where pools are planned: what the activity and the dispatcher share. The view is at work."""

    store: KeyValueStore
    keys: Keys
    source: ApplicationsSource
    view: ConfigurationView
    settings: AutoPoolSettings

    def configuration(self) -> Configuration:
        """The view as rules read it."""
        snapshot, settings = self.view.current, self.settings
        return Configuration(
            snapshot.catalog,
            snapshot.reservations,
            snapshot.quarantine,
            snapshot.records,
            settings.ipv4_enabled,
            settings.ipv6_enabled,
            snapshot.subnets,
        )


class AutoPoolActivities:
    """The activity and what it needs."""

    def __init__(self, place: PoolPlanner, writers: ShardWriters) -> None:
        self._place = place
        self._writers = writers
        self._needs = PoolRequests(place.store, place.keys)
        switches = FeatureSwitches(place.settings.ipv4_enabled, place.settings.ipv6_enabled)
        self._scopes = ScopeReader(place.store, place.keys, switches)
        self._changing = asyncio.Lock()

    @activity.defn(name="auto-pools-reconcile")
    async def reconcile(self, key: ApplicationKey) -> ReconcileResult:
        """Plan, carry out, and plan again until nothing is left to do.

        Raises StoreUnavailable, OutcomeUnknown, LostRace, NotReady, WriterFenced; again helps.
        """
        done: list[str] = []
        for _ in range(PASSES_MAX):
            position, changed_at, steps = await self._plan(key)
            made = [(step, await self._carry_out(step)) for step in steps if step.command]
            done += [_told(step) for step, outcome in made if outcome is DONE]
            refused = [outcome for _, outcome in made if isinstance(outcome, ReconcileStep)]
            if len(refused) == len(made):
                break
        else:
            raise LostRace(f"the pools of {key} change all the time", subject=str(key))
        left = [*(step for step in steps if not step.command), *refused]
        look = ReconcileResult(
            position, tuple(done[:DONE_MAX]), tuple(_problem(step) for step in left)
        )
        info = activity.info()
        await self._needs.report(
            ReconcileReport(look.position, info.workflow_id, key, look.problems, changed_at)
        )
        return look

    async def _plan(self, key: ApplicationKey) -> tuple[int, int, tuple[ReconcileStep, ...]]:
        """The steps, and as of which revisions (see ``ReconcileReport``)."""
        place, settings = self._place, self._place.settings
        need, position = await self._needs.find(key)
        found = await place.source.find(key)
        await place.view.freshen()
        changed_at = place.view.current.changed_at
        application = need if isinstance(found, MissingOwner) else found
        # Of what it touches alone: each application is looked at, however many there are.
        configuration = await self._scopes.read_application(key, named_subnets(application))
        own = [pool for pool in configuration.pools.values() if application_of(pool.labels) == key]
        claimed = await self._claimed(own)
        if isinstance(found, MissingOwner):
            if found.certain:
                return position, changed_at, departure(own, configuration, claimed)
            if need is None or is_built_in(key):
                return position, changed_at, _unknown(found, waits=need is not None)
        assert application is not None, "missing, and no need names it"
        steps = plan_application(
            application, configuration, claimed, settings.default, enabled=settings.enabled
        )
        return position, changed_at, steps

    async def _claimed(self, pools: list[Pool]) -> dict[str, Claim]:
        claimed: dict[str, Claim] = {}
        for pool in pools:
            addresses = pool_addresses(pool)
            claimed |= await read_claims(self._place.store, self._place.keys, addresses)
        return claimed

    async def _carry_out(self, step: ReconcileStep) -> Outcome:
        """One step; a step that says why, when it is refused."""
        assert step.command is not None, "only steps with a command are carried out"
        place, settings = self._place, self._place.settings
        # One at a time: all of this process would lose races against each other.
        async with self._changing, self._writers.borrowed() as (writer, cause):
            configurator = Configurator(
                place.store,
                place.keys,
                writer,
                ipv4_enabled=settings.ipv4_enabled,
                ipv6_enabled=settings.ipv6_enabled,
            )
            try:
                applied = await configurator.apply(step.command, cause)
            except Refused as error:
                return refused_step(step.pool, error, step.subnet)
        return DONE if applied.events else SO_ALREADY


def departure(
    own: list[Pool], configuration: Configuration, claimed: dict[str, Claim]
) -> tuple[ReconcileStep, ...]:
    """The steps for pools whose application is gone, whatever UID it had."""
    uids = sorted({pool.labels.get(OWNER_UID, "") for pool in own})
    return tuple(step for uid in uids for step in plan_departure(uid, configuration, claimed))


def _unknown(missing: MissingOwner, *, waits: bool) -> tuple[ReconcileStep, ...]:
    """Nothing is done for an application that nobody knows; whoever waits for it is told."""
    if not waits:
        return ()
    return (ReconcileStep("refuse", "", missing.why, again=True),)


def _problem(step: ReconcileStep) -> Problem:
    return Problem(step.pool, step.subnet, step.reason, step.remedy, step.again)


def _told(step: ReconcileStep) -> str:
    return f"{STEP_WORDS[step.action]} {step.pool}: {step.reason}"
