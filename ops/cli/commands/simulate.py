"""``orbctl simulate``: what an apply would do: events, refusals, free addresses, who would notice.

The commands run on a fork of the present state through the real ``decide``. Writes nothing.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.cli.commands.apply import read_commands
from ops.cli.context import globals_of, perform
from ops.cli.exits import Exit
from ops.cli.kinds import object_name
from ops.cli.output import Column, Format, counted, heading, show_table, show_value
from ops.cli.session import Session

if TYPE_CHECKING:
    from core.domain.commands import Command
    from core.projections.fork import Fork, Holding, PoolEffect, Step
    from core.projections.tally import PoolCounts

HOLDINGS_SHOWN_MAX: Final = 1_000
"""Holders listed; beyond it their number alone is told."""


def simulate(
    context: typer.Context,
    file: Annotated[list[str], typer.Option("-f", "--filename", help="YAML; - for standard input")],
    delete: Annotated[
        bool, typer.Option("--delete", help="what deleting these objects would do")
    ] = False,
) -> None:
    """Tell what applying (or deleting) these objects would do, and write nothing."""
    commands = _deletions(file) if delete else read_commands(file)
    output = globals_of(context).output

    async def action(session: Session) -> Exit:
        from core.projections.fork import Fork
        from core.store.state import read_ledger

        fork = Fork(await read_ledger(session.store, session.keys))
        steps = [fork.apply(command) for command in commands]
        noticed = list(islice(fork.noticed(), HOLDINGS_SHOWN_MAX + 1))
        if output.is_plain:
            show_value(_plain(steps, fork.effects(), noticed), output)
        else:
            _show(steps, fork, noticed, wide=output is Format.WIDE)
        return Exit.REFUSED if any(step.refusals for step in steps) else Exit.OK

    perform(context, action)


def _deletions(paths: list[str]) -> list[Command]:
    from core.manifests.commands import delete_command
    from core.manifests.reading import load_documents
    from ops.cli.context import stdin_text
    from ops.cli.session import read_text

    texts = (read_text(path, stdin_text) for path in paths)
    return [delete_command(manifest) for text in texts for manifest in load_documents(text)]


def _show(steps: list[Step], fork: Fork, noticed: list[Holding], *, wide: bool) -> None:
    from core.domain.events import TYPE_NAMES

    for step in steps:
        name = object_name(step.command)
        if step.refusals:
            _show_refused(name, step)
            continue
        events = ", ".join(TYPE_NAMES[type(event)] for event in step.events)
        fields = f" ({', '.join(step.changed)})" if step.changed else ""
        print(f"{name}: {events or 'unchanged, no event'}{fields}")
    effects = fork.effects()
    if effects:
        heading("\nAddresses")
        show_table(_EFFECT_COLUMNS, [_effect_row(effect) for effect in effects], wide=wide)
    if noticed:
        heading("\nHolders that would notice")
        _show_holdings(noticed)
    elif not any(step.refusals for step in steps):
        print("\nno holder would notice")


def _show_refused(name: str, step: Step) -> None:
    print(f"{name}: refused")
    for refusal in step.refusals:
        where = f"{refusal.field}: " if refusal.field else ""
        print(f"  - {where}{refusal.message} [{refusal.rule}]")
        if refusal.remedy:
            print(f"    → {refusal.remedy}")
    if step.in_the_way:
        print(f"    {counted(len(step.in_the_way), 'holder')} in the way:")
        for one in step.in_the_way[:HOLDINGS_SHOWN_MAX]:
            print(f"      {one.address}  {one.namespace}/{one.pod}")


_EFFECT_COLUMNS = (
    Column("POOL"),
    Column("TOTAL", right=True),
    Column("FREE", right=True),
    Column("CLAIMED", right=True, wide=True),
    Column("RESERVED", right=True),
    Column("QUARANTINED", right=True),
)


def _effect_row(effect: PoolEffect) -> tuple[str, ...]:
    return (
        effect.name,
        _change(effect, "total"),
        _change(effect, "free"),
        _change(effect, "claimed"),
        _change(effect, "reserved"),
        _change(effect, "quarantined"),
    )


def _change(effect: PoolEffect, field: str) -> str:
    before = getattr(effect.before, field) if effect.before else None
    after = getattr(effect.after, field) if effect.after else None
    if before == after:
        return f"{after:,}"
    return f"{'-' if before is None else f'{before:,}'} → {'-' if after is None else f'{after:,}'}"


def _show_holdings(noticed: list[Holding]) -> None:
    rows = [(one.address, f"{one.namespace}/{one.pod}", one.pool, one.why) for one in noticed]
    columns = (Column("ADDRESS"), Column("HELD BY"), Column("POOL"), Column("WHAT"))
    show_table(columns, rows[:HOLDINGS_SHOWN_MAX])
    if len(rows) > HOLDINGS_SHOWN_MAX:
        print(f"and more; only the first {HOLDINGS_SHOWN_MAX:,} are listed")


def _plain(steps: list[Step], effects: list[PoolEffect], noticed: list[Holding]) -> dict[str, Any]:
    from core.domain.events import TYPE_NAMES

    return {
        "steps": [
            {
                "object": object_name(step.command),
                "events": [TYPE_NAMES[type(event)] for event in step.events],
                "changed": list(step.changed),
                "refusals": [refusal._asdict() for refusal in step.refusals],
                "inTheWay": [one._asdict() for one in step.in_the_way[:HOLDINGS_SHOWN_MAX]],
            }
            for step in steps
        ],
        "pools": [
            {
                "name": effect.name,
                "before": _counts(effect.before),
                "after": _counts(effect.after),
            }
            for effect in effects
        ],
        "noticed": [one._asdict() for one in noticed[:HOLDINGS_SHOWN_MAX]],
    }


def _counts(counts: PoolCounts | None) -> dict[str, int] | None:
    return None if counts is None else counts._asdict()
