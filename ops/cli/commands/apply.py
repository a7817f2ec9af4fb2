"""``orbctl apply``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.domain.configuration.commands import (
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    ApplySubnet,
    Command,
)
from core.domain.evolution import Ledger
from core.errors import Refused
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get
from core.eventstore.state_reader import add_configuration, read_ledger
from core.manifests.commands import apply_command
from core.projections.fork import Fork
from ops.cli.action_runner import perform
from ops.cli.configuration_writer import write_command
from ops.cli.exit_codes import Exit, report_refusals, report_unreadable_keys
from ops.cli.input_files import Recursive
from ops.cli.kinds import object_name
from ops.cli.manifest_objects import read_valid_commands

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


def apply(
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Option("-f", "--filename", help="YAML file or folder; - for standard input"),
    ],
    recursive: Recursive = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check and show the result, write nothing")
    ] = False,
) -> None:
    """Create or change objects from manifests.

    SpiderIPPools, SpiderSubnets and SpiderReservedIPs are stored as pools, subnets and
    reservations; Pods, Namespaces, Nodes, workloads and Services as records. Objects are applied in
    order; a refused object does not stop the others. Objects of other kinds are skipped with a
    reason.

    Examples:
      orbctl apply -f pool.yaml
      orbctl apply -f pool.yaml --dry-run
      orbctl apply -R -f manifests/
      orbctl apply -f - < pool.yaml
    """
    commands, input_exit = read_valid_commands(file, apply_command, recursive=recursive)

    async def action(session: ClusterSession) -> Exit:
        apply_commands = _simulate_all if dry_run else _apply_all
        return Exit(max(await apply_commands(session, commands), input_exit))

    perform(context, action)


async def _apply_all(session: ClusterSession, commands: list[Command]) -> Exit:
    before = await _existing_objects(session, commands)
    applied: set[str] = set()
    worst = Exit.OK
    for command in commands:
        name = object_name(command)
        try:
            event_count = await write_command(session, command)
        except Refused as error:
            report_refusals(error.refusals)
            worst = Exit.REFUSED
            continue
        exists = name in applied or _exists(before, command)
        applied.add(name)
        print(f"{name} {_outcome(exists=exists, changed=bool(event_count))}")
    return worst


async def _existing_objects(session: ClusterSession, commands: list[Command]) -> Ledger:
    existing = Ledger()
    gets = [Get(key) for command in commands if (key := _key_of(session.keys, command))]
    for start in range(0, len(gets), TXN_OPERATIONS_MAX):
        result = await session.store.read(gets[start : start + TXN_OPERATIONS_MAX])
        for answer in result.ranges:
            add_configuration(session.keys, existing, answer.kvs)
    return existing


def _key_of(keys: Keys, command: Command) -> bytes:
    match command:
        case ApplyPool(pool):
            return keys.pool(pool.name)
        case ApplySubnet(subnet):
            return keys.subnet(subnet.name)
        case ApplyReservation(reservation):
            return keys.reservation(reservation.name)
        case ApplyRecord(record):
            return keys.record(record.kind, record.namespace, record.name)
        case _:
            return b""


async def _simulate_all(session: ClusterSession, commands: list[Command]) -> Exit:
    ledger = await read_ledger(session.store, session.keys)
    report_unreadable_keys(ledger)
    fork = Fork(ledger)
    worst = Exit.OK
    for command in commands:
        exists = _exists(ledger, command)
        step = fork.apply(command)
        if step.refusals:
            report_refusals(step.refusals)
            worst = Exit.REFUSED
            continue
        outcome = _outcome(exists=exists, changed=bool(step.events))
        print(f"{object_name(command)} {outcome} (dry run)")
    return worst


def _outcome(*, exists: bool, changed: bool) -> str:
    if not changed:
        return "unchanged"
    return "configured" if exists else "created"


def _exists(ledger: Ledger, command: Command) -> bool:
    match command:
        case ApplyPool(pool):
            return pool.name in ledger.pools
        case ApplySubnet(subnet):
            return subnet.name in ledger.subnets
        case ApplyReservation(reservation):
            return reservation.name in ledger.reservations
        case ApplyRecord(record):
            return (record.kind, record.namespace, record.name) in ledger.records
        case _:
            return True
