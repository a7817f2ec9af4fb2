"""The workflow that drains nodes whose virtual functions must change, a few nodes at a time.

Each round reads drain requests and cordoned nodes from the cluster, then executes a plan. So a new
execution uncordons the nodes of a lost execution. After a drain that takes too long, the node is
uncordoned, and drained again later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from core.domain.sriov.drain_plan import (
    CordonNode,
    DrainRecord,
    DrainStep,
    EvictPods,
    UncordonNode,
    plan_drains,
)
from workflows.api import workflow
from workflows.jobs.activity_options import failure_text, now_s, step_options, utc
from workflows.jobs.node_drain.activities import DrainActivities
from workflows.jobs.node_drain.drainer import DrainObservation
from workflows.model.payloads import Payload

WORKFLOW_TYPE: Final = "sriov-drains"
WORKFLOW_ID: Final = "sriov-drains"
SETTINGS_SIGNAL: Final = "settings"

ACTIVE_S: Final = 10.0
"""The pause while a node is being drained."""

IDLE_S: Final = 30.0
"""The pause while no node is being drained."""

STEP_S: Final = 30.0
STEP_ATTEMPTS_S: Final = 120.0
"""Time limits of one attempt, and of all attempts."""

_STEP: Final = step_options(STEP_S, STEP_ATTEMPTS_S)


class DrainSettings(NamedTuple):
    """How many nodes may be cordoned at a time. 0: all cordoned nodes are uncordoned."""

    max_unavailable: int = 1


class ContinuedDrains(NamedTuple):
    """State for the next run. ``drained``: number of finished drains."""

    records: Mapping[str, DrainRecord] = {}
    drained: int = 0


@workflow.defn(name=WORKFLOW_TYPE)
class SriovDrains:
    """The workflow of drains; a cluster has one execution."""

    def __init__(self) -> None:
        self._settings = DrainSettings()
        self._state = ContinuedDrains()
        self._staying_pods: dict[str, list[str]] = {}
        """Node -> a reason for each Pod that stayed at the last eviction."""
        self._fault = ""
        self._has_new_settings = False

    @workflow.run
    async def run(
        self, settings: DrainSettings, state: ContinuedDrains = ContinuedDrains()
    ) -> None:
        """Drain until cancelled."""
        self._settings, self._state = settings, state
        workflow.set_signal_handler(SETTINGS_SIGNAL, self._replace_settings)
        while True:
            self._fault = await self._round()
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._settings, self._state)
            pause_s = ACTIVE_S if self._active() else IDLE_S
            with suppress(workflow.TimeoutError):
                await workflow.wait_condition(lambda: self._has_new_settings, pause_s)
            self._has_new_settings = False

    @workflow.query
    def status(self) -> dict[str, Payload]:
        """The progress of drains, and the last failure."""
        records = self._state.records
        return {
            "draining": {node: utc(records[node].began_s) for node in self._active()},
            "given_up": {
                node: utc(record.given_up_s)
                for node, record in sorted(records.items())
                if record.given_up_s
            },
            "staying": {node: list(texts) for node, texts in sorted(self._staying_pods.items())},
            "drained": self._state.drained,
            "max_unavailable": self._settings.max_unavailable,
            "fault": self._fault,
        }

    def _replace_settings(self, settings: DrainSettings) -> None:
        self._settings = settings
        self._has_new_settings = True

    def _active(self) -> list[str]:
        return sorted(node for node, entry in self._state.records.items() if not entry.given_up_s)

    async def _round(self) -> str:
        """Return the last failure, or "" if none."""
        try:
            observed: DrainObservation = await workflow.execute_activity(
                DrainActivities.observe, options=_STEP
            )
        except workflow.ActivityError as error:
            return failure_text(error)
        plan = plan_drains(
            observed.requests,
            observed.cordoned,
            self._state.records,
            now_s(),
            self._settings.max_unavailable,
            observed.further_cordoned,
            requests_truncated=observed.requests_truncated,
        )
        requested = {request.node for request in observed.requests}
        self._staying_pods = {
            node: texts for node, texts in self._staying_pods.items() if node in requested
        }
        self._state = ContinuedDrains(plan.records, self._state.drained)
        return await self._execute_all(plan.steps, requested)

    async def _execute_all(self, steps: Collection[DrainStep], requested: Collection[str]) -> str:
        """Execute the steps. After a failed uncordon, cordon no further node.

        Returns the last failure, or "" if none.
        """
        fault = ""
        may_cordon = True
        for step in steps:
            if isinstance(step, CordonNode) and not may_cordon:
                continue
            try:
                await self._execute(step)
            except workflow.ActivityError as error:
                fault = failure_text(error)
                may_cordon = may_cordon and not isinstance(step, UncordonNode)
                continue
            if isinstance(step, UncordonNode) and step.node not in requested:
                self._state = self._state._replace(drained=self._state.drained + 1)
        return fault

    async def _execute(self, step: DrainStep) -> None:
        match step:
            case CordonNode():
                await workflow.execute_activity(DrainActivities.cordon, step.node, options=_STEP)
            case EvictPods():
                staying: tuple[str, ...] = await workflow.execute_activity(
                    DrainActivities.evict, step.node, step.pods, options=_STEP
                )
                self._staying_pods[step.node] = list(staying)
            case UncordonNode():
                await workflow.execute_activity(DrainActivities.uncordon, step.node, options=_STEP)
