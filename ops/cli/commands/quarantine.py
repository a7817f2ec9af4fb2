"""``orbctl quarantine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.domain.addresses.ip_address import parse_address, require_address
from core.domain.configuration.commands import LiftQuarantine, QuarantineAddress
from core.domain.configuration.configuration_state import readable_addresses
from core.domain.evolution import Ledger
from core.domain.model import Quarantine
from core.domain.quarantine.quarantine_decisions import evidence_text
from core.errors import BadInput, NotFound
from core.eventstore.codec import QUARANTINE_CODEC
from core.eventstore.kinds import CLAIM_KEYS
from core.eventstore.kv import Get
from core.eventstore.state_reader import read_configuration
from ops.cli.action_runner import perform
from ops.cli.commands.get import get
from ops.cli.configuration_writer import write_command
from ops.cli.output import show_value
from workflows.engine.client.client import Client
from workflows.jobs.quarantine.probe import PROBE_NOW, probe_id

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(
    no_args_is_help=True, help="Exclude from allocation the addresses that other hosts use."
)


@app.command()
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
    reason: Annotated[str, typer.Option("--reason", help="the reason, stored in the log")],
    evidence: Annotated[
        str, typer.Option("--evidence", help="what was observed, such as a MAC address")
    ] = "",
) -> None:
    """Quarantine an address: it is not allocated until the quarantine is lifted.

    A Pod that has the address keeps it.

    Examples:
      orbctl quarantine add 10.6.0.17 --reason 'a printer uses it'
      orbctl quarantine add 10.6.0.17 --reason printer --evidence 02:42:ac:11:00:02
    """
    command, done = QuarantineAddress(address, reason, evidence), f"{address} quarantined"

    async def action(session: ClusterSession) -> None:
        print(done if await write_command(session, command) else f"{done} already")
        for note in await _notes(session, address):
            typer.echo(note, err=True)

    perform(context, action)


@app.command()
def lift(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
    reason: Annotated[str, typer.Option("--reason", help="the reason, stored in the log")] = "",
) -> None:
    """Lift a quarantine: the address can be allocated again.

    Examples:
      orbctl quarantine lift 10.6.0.17 --reason 'the printer was moved'
    """

    async def action(session: ClusterSession) -> None:
        await write_command(session, LiftQuarantine(address, reason))
        print(f"{address} lifted")

    perform(context, action)


@app.command()
def probe(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
) -> None:
    """Probe a quarantined address now. Addresses that an operator quarantined are not probed.

    Examples:
      orbctl quarantine probe 10.6.0.17
    """

    async def action(session: ClusterSession) -> None:
        quarantine = await _read(session, address)
        if quarantine.conflicting_host is None:
            raise BadInput(
                f"an operator quarantined {quarantine.address}; such addresses are not probed",
                subject="address",
                remedy=f"run `orbctl quarantine lift {quarantine.address}`"
                " when the address is free",
            )
        async with Client(session.store, session.keys, name="orbctl") as client:
            await client.signal(probe_id(quarantine.address), PROBE_NOW)
        show_command = f"orbctl quarantine show {quarantine.address}"
        print(f"{quarantine.address} will be probed; `{show_command}` shows the result")

    perform(context, action)


@app.command()
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="the address")],
) -> None:
    """Show why an address is quarantined, the results of its probes, and when the next one is due.

    Examples:
      orbctl quarantine show 10.6.0.17
    """

    async def action(session: ClusterSession) -> None:
        quarantine = await _read(session, address)
        shown = {
            "address": quarantine.address,
            "reason": quarantine.reason,
            "seen": evidence_text(quarantine),
        }
        if quarantine.conflicting_host is None:
            show_value({**shown, "probes": "none: an operator quarantined it"}, session.output)
            return
        async with Client(session.store, session.keys, name="orbctl") as client:
            status = await client.query(probe_id(quarantine.address), "status")
        assert isinstance(status, dict), "the status query returned no object"
        show_value({**shown, **status}, session.output)

    perform(context, action)


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """Show the quarantined addresses.

    Examples:
      orbctl quarantine list
      orbctl quarantine list -o json
    """
    get(context, ["quarantine"])


async def _notes(session: ClusterSession, text: str) -> list[str]:
    address, ledger = parse_address(text), Ledger()
    await read_configuration(session.store, session.keys, ledger)
    pools = [pool for pool in ledger.pools.values() if pool.family == address.family]
    notes = []
    if not any(address.value in readable_addresses(pool) for pool in pools):
        notes.append(f"no pool has {address}, so the quarantine has no effect yet")
    key = session.keys.ip(*address)
    if (held := (await session.store.read([Get(key)])).ranges[0].first) is not None:
        claim = CLAIM_KEYS.decode(session.keys, key, held.value)
        notes.append(
            f"{address} is held by {claim.namespace}/{claim.pod}, which keeps it until it is"
            " released"
        )
    return notes


async def _read(session: ClusterSession, text: str) -> Quarantine:
    address = require_address(text)
    kvs = (await session.store.read([Get(session.keys.quarantine(*address))])).ranges[0].kvs
    if not kvs:
        raise NotFound(f"{address} is not in quarantine", remedy="see `orbctl quarantine list`")
    return QUARANTINE_CODEC.decode(kvs[0].value)
