"""``orbctl delete``.

Refuses a pool that has claims, and a subnet that has pools. With ``--drain``, a pool gets no new
claims and is deleted after its last claim; a subnet is deleted after its last pool.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.configuration.command_scope import ScopeReader
from core.domain.configuration.commands import (
    Command,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    DeleteSubnet,
    RetirePool,
    RetireSubnet,
)
from core.domain.subnets.subnet_model import pools_of_subnet
from core.errors import BadInput, Refused
from core.manifests.commands import delete_command
from ops.cli.action_runner import perform
from ops.cli.configuration_writer import write_command
from ops.cli.exit_codes import Exit, exit_code, report_refusals
from ops.cli.input_files import Recursive
from ops.cli.kinds import (
    NAMESPACED_KINDS,
    RECORD_KINDS,
    ObjectKind,
    kind_of,
    object_name,
    split_name,
)
from ops.cli.manifest_objects import read_valid_commands
from ops.cli.name_completion import complete_kind, complete_names

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

ALLOWED: Final = (
    ObjectKind.POOL,
    ObjectKind.SUBNET,
    ObjectKind.RESERVATION,
    *RECORD_KINDS,
    # Accepted only to report the remedy in ``OTHER_COMMANDS``.
    ObjectKind.QUARANTINE,
    ObjectKind.ENDPOINT,
)
DRAIN_S_DEFAULT: Final = 30.0
DRAIN_POLL_S: Final = 0.5

OTHER_COMMANDS: Final = {
    ObjectKind.QUARANTINE: "use `orbctl quarantine lift ADDRESS`",
    ObjectKind.ENDPOINT: "use `orbctl release POD --reason ...`",
    ObjectKind.COORDINATOR: "use `kubectl delete spidercoordinator NAME`",
}
"""Kinds that ``delete`` cannot remove -> the command to use instead."""


def delete(
    context: typer.Context,
    kind: Annotated[
        str,
        typer.Argument(
            help="pool, subnet, reservation or a kind of record, or KIND/NAME",
            autocompletion=complete_kind,
        ),
    ] = "",
    names: Annotated[
        list[str] | None, typer.Argument(help="names", autocompletion=complete_names)
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("-f", "--filename", help="YAML file or folder; - for standard input"),
    ] = None,
    recursive: Recursive = False,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="namespace of the objects")
    ] = "default",
    drain: Annotated[
        bool,
        typer.Option("--drain", help="retire pools and subnets, delete them when they are empty"),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="seconds to wait for a drained pool to be empty")
    ] = DRAIN_S_DEFAULT,
) -> None:
    """Delete objects by kind and name, or the objects of a YAML file.

    Examples:
      orbctl delete pool lan
      orbctl delete pool/lan subnet/office
      orbctl delete pool lan --drain --timeout 300
      orbctl delete -f pool.yaml
    """
    if bool(file) == bool(kind):
        raise BadInput(
            "a kind and --filename cannot be combined" if kind else "no object is given",
            subject="filename",
            remedy="give a kind and names, or -f FILE",
        )
    commands, input_exit = (
        read_valid_commands(file, delete_command, recursive=recursive)
        if file
        else (_commands_of_names(kind, names or [], namespace), Exit.OK)
    )

    async def action(session: ClusterSession) -> Exit:
        worst = Exit(input_exit)
        for command in commands:
            code = await _delete(session, command, drain_s=timeout if drain else None)
            worst = max(worst, code)
        return worst

    perform(context, action)


def _commands_of_names(word: str, names: list[str], namespace: str) -> list[Command]:
    if "/" in word:
        commands: list[Command] = []
        for kind_and_name in (word, *names):
            kind_word, _, name = kind_and_name.partition("/")
            commands += _commands_of_names(kind_word, [name], namespace)
        return commands
    kind = kind_of(word, ALLOWED)
    if kind in OTHER_COMMANDS:
        raise BadInput(f"delete cannot remove a {kind}", subject=word, remedy=OTHER_COMMANDS[kind])
    if not any(names):
        raise BadInput(
            f"the name of the {kind} is missing",
            subject=word,
            remedy=f"write it after the kind: `orbctl delete {word} NAME`",
        )
    if kind is ObjectKind.POOL:
        return [DeletePool(name) for name in names]
    if kind is ObjectKind.RESERVATION:
        return [DeleteReservation(name) for name in names]
    if kind is ObjectKind.SUBNET:
        return [DeleteSubnet(name) for name in names]
    if kind in NAMESPACED_KINDS:
        record_kind = RECORD_KINDS[kind]
        return [DeleteRecord(record_kind, *split_name(name, namespace)) for name in names]
    return [DeleteRecord(RECORD_KINDS[kind], "", name) for name in names]


async def _delete(session: ClusterSession, command: Command, drain_s: float | None) -> Exit:
    try:
        if drain_s is not None and isinstance(command, DeletePool | DeleteSubnet):
            await _drain(session, command, drain_s)
        else:
            await write_command(session, command)
    except Refused as error:
        report_refusals(error.refusals)
        return exit_code(error)
    print(f"{object_name(command)} deleted")
    return Exit.OK


async def _drain(
    session: ClusterSession, command: DeletePool | DeleteSubnet, drain_s: float
) -> None:
    """Raises Refused if the object is in use after ``drain_s``."""
    is_pool = isinstance(command, DeletePool)
    retire = RetirePool(command.name) if is_pool else RetireSubnet(command.name)
    if await write_command(session, retire):
        print(f"{object_name(command)} retiring")
    deadline = time.monotonic() + drain_s
    while True:
        try:
            if not is_pool:
                await _delete_empty_pools(session, command.name)
            await write_command(session, command)
        except Refused as error:
            if _is_missing(error):  # a controller has deleted the retired object
                return
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(DRAIN_POLL_S)
        else:
            return


async def _delete_empty_pools(session: ClusterSession, subnet: str) -> None:
    """Delete the subnet's empty pools. Raises Refused after that if other pools have claims."""
    scopes = ScopeReader(session.store, session.keys)
    scope = await scopes.read(DeleteSubnet(subnet), may_write=False)
    refused: Refused | None = None
    for pool in pools_of_subnet(subnet, scope.configuration.pools):
        try:
            await write_command(session, DeletePool(pool.name))
            print(f"{object_name(DeletePool(pool.name))} deleted")
        except Refused as error:
            if not _is_missing(error):
                refused = error
    if refused is not None:
        raise refused


def _is_missing(error: Refused) -> bool:
    return exit_code(error) is Exit.NOT_FOUND
