"""``orbctl simulate``: shows what an apply or a delete would do. Writes nothing.

A simulation decides as a real apply does, but changes only a copy of the state.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from core.domain.autopools.application_plan import ReconcileStep, refused_step
from core.domain.events import TYPE_NAMES
from core.domain.evolution import Ledger
from core.domain.validation.common_rules import counted
from core.errors import Refused
from core.eventstore.state_reader import read_ledger
from core.manifests.commands import apply_command, delete_command
from core.projections.fork import Fork, Holding, PoolEffect, SimulatedStep
from core.projections.pool_tally import PoolCounts
from ops.cli.action_runner import perform
from ops.cli.application_rows import application_lines, shown_action
from ops.cli.exit_codes import Exit, report_unreadable_keys
from ops.cli.formats import Output
from ops.cli.input_files import Recursive
from ops.cli.kinds import object_name
from ops.cli.manifest_objects import read_commands
from ops.cli.output import TableColumn, print_heading, show_table, show_value

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

HOLDINGS_SHOWN_MAX: Final = 1_000


def simulate(
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Option("-f", "--filename", help="YAML file or folder; - for standard input"),
    ],
    recursive: Recursive = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="simulate the deletion of these objects")
    ] = False,
) -> None:
    """Show what a change would do, without writing.

    Includes what controllers would do with the automatic pools of recorded applications.

    Examples:
      orbctl simulate -f pool.yaml
      orbctl simulate -f pool.yaml --delete
      orbctl simulate -f manifests/ -R -o json
    """
    command_of = delete_command if delete else apply_command
    commands = read_commands(file, command_of, recursive=recursive)

    async def action(session: ClusterSession) -> Exit:
        fork = Fork(await read_ledger(session.store, session.keys))
        report_unreadable_keys(fork.ledger)
        plans_before = set(_pending_plans(fork.ledger))
        steps = [fork.apply(command) for command in commands]
        new_plans = [plan for plan in _pending_plans(fork.ledger) if plan not in plans_before]
        plans = [_apply_plan(plan, fork) for plan in new_plans]
        affected = list(islice(fork.affected_holders(), HOLDINGS_SHOWN_MAX + 1))
        result = SimulationResult(steps, plans, affected)
        if session.output.is_structured:
            show_value(_plain(result, fork.effects()), session.output)
        else:
            _show(result, fork, session.output)
        return Exit.REFUSED if result.is_refused else Exit.OK

    perform(context, action)


class AutomaticPoolPlan(NamedTuple):
    """A controller's step for one application's automatic pools."""

    application: str
    step: ReconcileStep


class SimulationResult(NamedTuple):
    """A simulation's result.

    If there are more than ``HOLDINGS_SHOWN_MAX`` affected holders, ``affected`` has one more.
    """

    steps: list[SimulatedStep]
    plans: list[AutomaticPoolPlan]
    affected: list[Holding]

    @property
    def is_refused(self) -> bool:
        """Whether a rule refuses an object or an automatic pool."""
        return any(step.refusals for step in self.steps) or any(
            plan.step.action == "refuse" for plan in self.plans
        )


def _pending_plans(ledger: Ledger) -> list[AutomaticPoolPlan]:
    return [
        AutomaticPoolPlan(str(line.key), step)
        for line in application_lines(ledger)
        for step in line.steps
    ]


def _apply_plan(plan: AutomaticPoolPlan, fork: Fork) -> AutomaticPoolPlan:
    """Apply the plan to the fork. If a rule refuses it, return the plan with a refused step."""
    step = plan.step
    refusals = fork.apply(step.command).refusals if step.command is not None else ()
    if not refusals:
        return plan
    return plan._replace(step=refused_step(step.pool, Refused(refusals), step.subnet))


def _show(result: SimulationResult, fork: Fork, output: Output) -> None:
    for step in result.steps:
        name = object_name(step.command)
        if step.refusals:
            _show_refused(name, step)
            continue
        events = ", ".join(TYPE_NAMES[type(event)] for event in step.events)
        fields = f" ({', '.join(step.changed)})" if step.changed else ""
        print(f"{name}: {events or 'unchanged, no event'}{fields}")
    if result.plans:
        print_heading("\nAutomatic pools")
        show_table(_PLAN_COLUMNS, map(_plan_row, result.plans))
    effects = fork.effects()
    if effects:
        print_heading("\nAddresses")
        show_table(_EFFECT_COLUMNS, [_effect_row(effect) for effect in effects], output)
    if result.affected:
        print_heading("\nAffected holders")
        _show_holdings(result.affected)
    elif not result.is_refused:
        print("\nno holder would be affected")


def _show_refused(name: str, step: SimulatedStep) -> None:
    print(f"{name}: refused")
    for refusal in step.refusals:
        where = f"{refusal.field}: " if refusal.field else ""
        print(f"  - {where}{refusal.message} [{refusal.rule}]")
        if refusal.remedy:
            print(f"    → {refusal.remedy}")
    if step.blocking:
        print(f"    prevented by {counted(len(step.blocking), 'holder')}:")
        for holding in step.blocking[:HOLDINGS_SHOWN_MAX]:
            print(f"      {holding.address}  {holding.namespace}/{holding.pod}")


_PLAN_COLUMNS = (
    TableColumn("APPLICATION"),
    TableColumn("STEP"),
    TableColumn("POOL"),
    TableColumn("WHY"),
)


def _plan_row(plan: AutomaticPoolPlan) -> tuple[str, ...]:
    step = plan.step
    why = f"{step.reason} ({step.remedy})" if step.remedy else step.reason
    return plan.application, shown_action(step), step.pool or "-", why


_EFFECT_COLUMNS = (
    TableColumn("POOL"),
    TableColumn("TOTAL", right=True),
    TableColumn("FREE", right=True),
    TableColumn("CLAIMED", right=True, wide=True),
    TableColumn("RESERVED", right=True),
    TableColumn("QUARANTINED", right=True),
)


def _effect_row(effect: PoolEffect) -> tuple[str, ...]:
    return (
        effect.name,
        _change_text(effect, "total"),
        _change_text(effect, "free"),
        _change_text(effect, "claimed"),
        _change_text(effect, "reserved"),
        _change_text(effect, "quarantined"),
    )


def _change_text(effect: PoolEffect, field: str) -> str:
    before = getattr(effect.before, field) if effect.before else None
    after = getattr(effect.after, field) if effect.after else None
    if before == after:
        return f"{after:,}"
    return f"{_number(before)} → {_number(after)}"


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _show_holdings(affected: list[Holding]) -> None:
    rows = [
        (holding.address, f"{holding.namespace}/{holding.pod}", holding.pool, holding.why)
        for holding in affected
    ]
    columns = (
        TableColumn("ADDRESS"),
        TableColumn("HELD BY"),
        TableColumn("POOL"),
        TableColumn("WHAT"),
    )
    show_table(columns, rows[:HOLDINGS_SHOWN_MAX])
    if len(rows) > HOLDINGS_SHOWN_MAX:
        print(f"and more; only the first {HOLDINGS_SHOWN_MAX:,} are listed")


def _plain(result: SimulationResult, effects: list[PoolEffect]) -> dict[str, Any]:
    return {
        "steps": [
            {
                "object": object_name(step.command),
                "events": [TYPE_NAMES[type(event)] for event in step.events],
                "changed": list(step.changed),
                "refusals": [refusal._asdict() for refusal in step.refusals],
                "inTheWay": [holding._asdict() for holding in step.blocking[:HOLDINGS_SHOWN_MAX]],
            }
            for step in result.steps
        ],
        "applications": [
            {
                "application": plan.application,
                "action": plan.step.action,
                "pool": plan.step.pool,
                "reason": plan.step.reason,
                "remedy": plan.step.remedy,
                "again": plan.step.again,
            }
            for plan in result.plans
        ],
        "pools": [
            {
                "name": effect.name,
                "before": _counts(effect.before),
                "after": _counts(effect.after),
            }
            for effect in effects
        ],
        "noticed": [holding._asdict() for holding in result.affected[:HOLDINGS_SHOWN_MAX]],
    }


def _counts(counts: PoolCounts | None) -> dict[str, int] | None:
    return None if counts is None else counts._asdict()
