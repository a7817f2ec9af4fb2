"""Keeps the settings of a node's RoCE NICs equal to the rules.

The kernel does not report changes, so a round reads all settings every ``ROUND_S``. A change may
interrupt the link. So if another program, such as an LLDP daemon, undid a change ``REPEATS_MAX``
times in a row, the agent repeats the change only once in ``HOLD_ROUNDS`` rounds. A failed change
does not prevent other changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from core.domain.roce_qos.qos_model import RoceNic, RoceQosRule
from core.domain.roce_qos.qos_plan import QosChange, QosGap, QosPlan, plan_qos
from core.errors import DatapathError

ROUND_S: Final = 60.0

REPEATS_MAX: Final = 3

HOLD_ROUNDS: Final = 60

RETRY_S: Final = 5.0
"""Seconds until the next round while the node's labels are unknown."""

ALL_NICS: Final = "*"
"""The NIC label of the fault metric while no NIC is known."""

_UNDONE: Final = (
    "the driver, the NIC's firmware (DCBX) or another program such as lldpad undid it several"
    " times: disable DCBX or change that program's settings; the agent tries again in an hour"
)

_log: Final = logging.getLogger(__name__)


class QosHardware(Protocol):
    """The RoCE NICs of a node. The methods block."""

    def read(self) -> tuple[RoceNic, ...]:
        """Every RoCE NIC. Raises DatapathError, OSError."""
        ...

    def carry_out(self, change: QosChange) -> None:
        """Carry out one change. Raises DatapathError, OSError."""
        ...


class QosReconciler:
    """Applies the rules to the RoCE NICs of one node, in rounds.

    ``labels`` returns None while the labels are unknown. ``faults``: error texts by change.
    """

    def __init__(
        self,
        rules: Collection[RoceQosRule],
        labels: Callable[[], Mapping[str, str] | None],
        hardware: QosHardware,
    ) -> None:
        self.rounds = 0
        self.changes = 0
        self.plan = QosPlan({})
        self.faults: Mapping[str, str] = {}
        self._fault_counts: Mapping[str, int] = {}
        self._has_nics = True
        self._repeats: dict[QosChange, int] = {}
        self._rules = rules
        self._labels = labels
        self._hardware = hardware

    async def run(self) -> None:
        """Run rounds until cancelled. A fault is logged once."""
        while True:
            is_complete = await self.run_round()
            await asyncio.sleep(ROUND_S if is_complete else RETRY_S)

    async def run_round(self) -> bool:
        """Run one round; False if the rules need labels that are unknown."""
        labels = self._labels()
        if labels is None:
            if any(rule.nodes for rule in self._rules):
                return False
            labels = {}
        try:
            nics = await asyncio.to_thread(self._hardware.read)
        except (DatapathError, OSError) as error:
            nics_of_rules = self.plan.desired or (ALL_NICS,)
            faults = {"the NICs were not read": str(error)}
            self._report(self.plan, faults, dict.fromkeys(nics_of_rules, 1))
        else:
            await self._reconcile(plan_qos(self._rules, labels, nics))
        self.rounds += 1
        return True

    def faults_by_nic(self) -> Mapping[str, int]:
        """The number of failed changes of each selected NIC; 1 if the NICs cannot be read."""
        return {**dict.fromkeys(self.plan.desired, 0), **self._fault_counts}

    def gaps_by_nic(self) -> Mapping[str, int]:
        """The number of settings that the driver does not support, for each selected NIC."""
        counts = Counter(gap.nic for gap in self.plan.gaps)
        return {nic: counts[nic] for nic in self.plan.desired}

    async def _reconcile(self, plan: QosPlan) -> None:
        faults: dict[str, str] = {}
        fault_counts: Counter[str] = Counter()
        if self._has_nics and not plan.desired:
            _log.info("no rule of orbweaver.roceQos selects a RoCE NIC of this node")
        self._has_nics = bool(plan.desired)
        self._repeats = {change: self._repeats.get(change, 0) for change in plan.changes}
        for change in plan.changes:
            if fault := await self._carry_out(change):
                faults[str(change)] = fault
                fault_counts[change.nic] += 1
        self._report(plan, faults, fault_counts)

    async def _carry_out(self, change: QosChange) -> str:
        """Carry out a change, only rarely if it was undone too often; return the fault or ""."""
        repeats = self._repeats[change]
        undone_too_often = repeats >= REPEATS_MAX
        if not undone_too_often or repeats % HOLD_ROUNDS == 0:
            try:
                await asyncio.to_thread(self._hardware.carry_out, change)
            except (DatapathError, OSError) as error:
                return str(error)
            self.changes += 1
            _log.info("carried out %s", change)
        self._repeats[change] += 1
        return _UNDONE if undone_too_often else ""

    def _report(
        self, plan: QosPlan, faults: Mapping[str, str], fault_counts: Mapping[str, int]
    ) -> None:
        for gap in _new_gaps(plan.gaps, self.plan.gaps):
            _log.warning("RoCE QoS is not complete: %s", gap)
        for change, why in faults.items():
            if self.faults.get(change) != why:
                _log.warning("RoCE QoS is not complete: %s: %s", change, why)
        if self.faults and not faults:
            _log.info("RoCE QoS: all settings of the rules are applied")
        self.plan, self.faults, self._fault_counts = plan, faults, fault_counts


def _new_gaps(gaps: Sequence[QosGap], known: Sequence[QosGap]) -> list[QosGap]:
    return [gap for gap in gaps if gap not in known]
