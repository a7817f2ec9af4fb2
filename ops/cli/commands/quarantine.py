"""``orbctl quarantine``: set an address aside because a stranger uses it, and take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.commands.get import get
from ops.cli.context import globals_of, perform
from ops.cli.exits import Exit
from ops.cli.output import show_value
from ops.cli.session import Session

if TYPE_CHECKING:
    from core.domain.commands import Command

app = typer.Typer(
    no_args_is_help=True, help="Set addresses aside that a stranger uses, and take them back."
)


@app.command()
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
    reason: Annotated[str, typer.Option("--reason", help="for people")],
    evidence: Annotated[str, typer.Option("--evidence", help="who saw what, such as a MAC")] = "",
) -> None:
    """Set an address aside: it is not handed out until the quarantine is lifted.

    Who holds it keeps it.
    """
    from core.domain.commands import QuarantineAddress

    _apply(context, QuarantineAddress(address, reason, evidence), f"{address} quarantined")


@app.command()
def lift(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
    reason: Annotated[str, typer.Option("--reason", help="for people")] = "",
) -> None:
    """Let a quarantined address be handed out again."""
    from core.domain.commands import LiftQuarantine

    _apply(context, LiftQuarantine(address, reason), f"{address} lifted")


@app.command()
def probe(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
) -> None:
    """Probe an address now; one that a person has set aside is not probed."""

    async def action(session: Session) -> Exit:
        from workflows.engine.client import Client
        from workflows.jobs.quarantine.probe import PROBE_NOW, probe_id

        async with Client(session.store, session.keys, name="orbctl") as client:
            await client.signal(probe_id(address), PROBE_NOW)
        print(f"{address} will be probed: orbctl quarantine show {address}")
        return Exit.OK

    perform(context, action)


@app.command()
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
) -> None:
    """Show what the probes of an address have said, and when the next one comes."""
    output = globals_of(context).output

    async def action(session: Session) -> Exit:
        from workflows.engine.client import Client
        from workflows.jobs.quarantine.probe import probe_id

        async with Client(session.store, session.keys, name="orbctl") as client:
            found = await client.query(probe_id(address), "status")
        assert isinstance(found, dict), "the query answers an object"
        show_value(found, output)
        return Exit.OK

    perform(context, action)


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """Show the addresses that are set aside."""
    get(context, "quarantine")


def _apply(context: typer.Context, command: Command, done: str) -> None:
    async def action(session: Session) -> Exit:
        applied = await session.write(
            lambda writer: session.configurator(writer).apply(command, session.cause)
        )
        print(done if applied.events else f"{done} already")
        return Exit.OK

    perform(context, action)
