"""``orbctl retire``: retires pools and subnets, which then allocate no addresses.

A workflow deletes them when they are empty. The workflow needs a running controller.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from core.domain.configuration.commands import Reinstate, Retirable
from core.domain.configuration.retirement import InUsePolicy, deletion_command
from core.domain.evolution import Ledger
from core.domain.validation.common_rules import counted
from core.errors import BadInput, ExecutionNotFound, NotFound
from core.eventstore.state_reader import read_configuration
from ops.cli.action_runner import perform
from ops.cli.configuration_writer import write_command
from ops.cli.kinds import ObjectKind, kind_of, object_name
from ops.cli.output import TableColumn, print_fields, print_names, show_table, show_value
from ops.cli.time_arguments import parse_duration
from workflows.engine.client.client import Client
from workflows.engine.client.visibility import Visibility
from workflows.engine.store.keys import WorkflowKeys
from workflows.jobs.retirement.activities import read_remaining
from workflows.jobs.retirement.retirement_values import (
    POOL_WORKFLOW,
    REQUEST_SIGNAL,
    SUBNET_WORKFLOW,
    AtDeadline,
    RemainingClaims,
    RetirementRequest,
    retirement_id,
)

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(no_args_is_help=True, help="Delete pools and subnets once they are empty.")

_COLUMNS: Final = (
    TableColumn("OBJECT"),
    TableColumn("LEFT"),
    TableColumn("EXECUTION"),
    TableColumn("ID", wide=True),
)
WAIT: Final = "wait"
REFUSE: Final = "refuse"
IN_USE_VARIABLE: Final = "ORBWEAVER_RETIRE_IN_USE"

Names = Annotated[list[str], typer.Argument(help="names")]
Deadline = Annotated[
    str,
    typer.Option("--deadline", help="deadline, such as 90s, 2h or 3d; needs --in-use wait"),
]
WithReinstatement = Annotated[
    bool,
    typer.Option(
        "--reinstate",
        "--give-back",
        help="reinstate the pool or subnet at the deadline; needs --deadline",
    ),
]
IfInUse = Annotated[
    str,
    typer.Option(
        "--in-use",
        envvar=IN_USE_VARIABLE,
        help="wait: retire, and delete when empty; refuse: delete now, or fail if it is in use",
    ),
]
KindWord = Annotated[str, typer.Argument(help="pool or subnet")]
Name = Annotated[str, typer.Argument(help="name")]


class _RetireOptions(NamedTuple):
    """``deadline_s`` counts from now; 0 means no deadline."""

    deadline_s: float
    in_use: InUsePolicy


@app.command()
def pool(
    context: typer.Context,
    names: Names,
    deadline: Deadline = "",
    reinstate: WithReinstatement = False,
    in_use: IfInUse = WAIT,
) -> None:
    """Retire pools: no new claims; each is deleted when its last claim is released.

    Examples:
      orbctl retire pool lan
      orbctl retire pool lan wan
    """
    _retire(context, "pool", names, _parse_options(deadline, in_use), reinstate=reinstate)


@app.command()
def subnet(
    context: typer.Context,
    names: Names,
    deadline: Deadline = "",
    reinstate: WithReinstatement = False,
    in_use: IfInUse = WAIT,
) -> None:
    """Retire subnets with all their pools; each is deleted after its last pool.

    Examples:
      orbctl retire subnet office
    """
    _retire(context, "subnet", names, _parse_options(deadline, in_use), reinstate=reinstate)


@app.command(name="list")
def list_(context: typer.Context) -> None:
    """Show retiring pools and subnets, and how many claims or pools they still have.

    Examples:
      orbctl retire list
    """

    async def action(session: ClusterSession) -> None:
        retirements = [
            (kind, name, *await _read_retirement(session, kind, name))
            for kind, name in await _retiring_objects(session)
        ]
        if session.output.is_structured:
            items = [
                _document(kind, name, remaining, status)
                for kind, name, remaining, status in retirements
            ]
            show_value({"retirements": items}, session.output)
        elif session.output.is_name:
            print_names(f"{kind}/{name}" for kind, name, _, _ in retirements)
        else:
            rows = [
                (
                    f"{kind}/{name}",
                    _remaining_text(kind, remaining),
                    status or "none yet",
                    _id(kind, name),
                )
                for kind, name, remaining, status in retirements
            ]
            show_table(_COLUMNS, rows, session.output)

    perform(context, action)


@app.command()
def show(context: typer.Context, kind: KindWord, name: Name) -> None:
    """Show what one retirement waits for.

    Examples:
      orbctl retire show pool lan
    """
    retirable = _kind(kind)

    async def action(session: ClusterSession) -> None:
        remaining, status = await _read_retirement(session, retirable, name)
        if remaining.state == "gone":
            raise NotFound(
                f"there is no {retirable} {name}",
                subject=name,
                remedy=f"`orbctl get {retirable}s` lists the {retirable}s",
            )
        is_retiring = _state_text(remaining) == "retiring"
        if session.output.is_structured:
            show_value(_document(retirable, name, remaining, status), session.output)
            return
        print_fields(
            (
                ("object", f"{retirable}/{name}"),
                ("state", "retiring" if is_retiring else "serving"),
                ("left", _remaining_text(retirable, remaining) if is_retiring else ""),
                ("execution", f"{_id(retirable, name)}, {status}" if status else "none yet"),
                (
                    "holders",
                    "\n".join(f"{holder.address} {holder.pod}" for holder in remaining.holders),
                ),
                ("pools", "\n".join(remaining.pools)),
            )
        )

    perform(context, action)


@app.command()
def cancel(context: typer.Context, kind: KindWord, name: Name) -> None:
    """Cancel a retirement: the pool or subnet serves again.

    Examples:
      orbctl retire cancel pool lan
    """
    retirable = _kind(kind)

    async def action(session: ClusterSession) -> None:
        event_count = await write_command(session, Reinstate(retirable, name))
        async with Client(session.store, session.keys, name="orbctl") as client:
            with suppress(ExecutionNotFound):
                await client.cancel(_id(retirable, name), f"cancelled by {session.actor}")
        outcome = "serves again" if event_count else "serves"
        print(f"{object_name(Reinstate(retirable, name))} {outcome}")

    perform(context, action)


def _retire(
    context: typer.Context,
    kind: Retirable,
    names: list[str],
    options: _RetireOptions,
    *,
    reinstate: bool,
) -> None:
    deadline_s, in_use = options
    if in_use == REFUSE and (deadline_s or reinstate):
        raise BadInput(
            f"--deadline and --reinstate need --in-use {WAIT},"
            f" but --in-use or {IN_USE_VARIABLE} is {REFUSE}",
            subject="in-use",
            remedy=f"give --in-use {WAIT}, or leave out --deadline and --reinstate",
        )
    if reinstate and not deadline_s:
        raise BadInput(
            "--reinstate is given without a --deadline",
            subject="reinstate",
            remedy="give --deadline, such as 2h",
        )

    async def action(session: ClusterSession) -> None:
        at_deadline: AtDeadline = "reinstate" if reinstate else "wait"
        for name in names:
            command = deletion_command(kind, name, in_use)
            event_count = await write_command(session, command)
            if in_use == REFUSE:
                print(f"{object_name(command)} deleted")
                continue
            request = RetirementRequest(name, deadline_s, at_deadline, session.actor)
            await _start_or_signal(session, kind, request)
            outcome = "retiring" if event_count else "retiring already"
            print(f"{object_name(command)} {outcome}")

    perform(context, action)


async def _start_or_signal(
    session: ClusterSession, kind: Retirable, request: RetirementRequest
) -> None:
    workflow = POOL_WORKFLOW if kind == "pool" else SUBNET_WORKFLOW
    async with Client(session.store, session.keys, name="orbctl") as client:
        await client.signal_with_start(
            workflow,
            request,
            id=_id(kind, request.name),
            signal=REQUEST_SIGNAL,
            signal_args=[request],
        )


async def _retiring_objects(session: ClusterSession) -> list[tuple[Retirable, str]]:
    ledger = Ledger()
    await read_configuration(session.store, session.keys, ledger)
    subnets = sorted(name for name, value in ledger.subnets.items() if value.retiring)
    pools = sorted(name for name, value in ledger.pools.items() if value.retiring)
    return [*(("subnet", name) for name in subnets), *(("pool", name) for name in pools)]


async def _read_retirement(
    session: ClusterSession, kind: Retirable, name: str
) -> tuple[RemainingClaims, str]:
    """The remaining claims, and the status of the workflow execution; "" without an execution."""
    remaining = await read_remaining(session.store, session.keys, kind, name)
    try:
        description = await Visibility(session.store, WorkflowKeys(session.keys)).describe(
            _id(kind, name)
        )
    except ExecutionNotFound:
        return remaining, ""
    overdue = description.head.search_attributes.get("RetirementOverdue")
    return remaining, f"{description.head.status.value}{', overdue' if overdue else ''}"


def _parse_options(deadline: str, in_use: str) -> _RetireOptions:
    if in_use == WAIT:
        return _RetireOptions(parse_duration(deadline), WAIT)
    if in_use == REFUSE:
        return _RetireOptions(parse_duration(deadline), REFUSE)
    raise BadInput(
        f"--in-use {in_use[:32]!r} is neither {WAIT} nor {REFUSE}",
        subject="in-use",
        remedy=f"use {WAIT} or {REFUSE}",
    )


def _kind(word: str) -> Retirable:
    kind = kind_of(word, (ObjectKind.POOL, ObjectKind.SUBNET))
    return "pool" if kind is ObjectKind.POOL else "subnet"


def _id(kind: Retirable, name: str) -> str:
    return retirement_id(kind, name)


def _remaining_text(kind: Retirable, remaining: RemainingClaims) -> str:
    if kind == "pool":
        return counted(remaining.claims, "claim")
    return counted(remaining.pool_count, "pool")


def _state_text(remaining: RemainingClaims) -> str:
    return "retiring" if remaining.state == "held" else remaining.state


def _document(
    kind: Retirable, name: str, remaining: RemainingClaims, status: str
) -> dict[str, object]:
    return {
        "kind": kind,
        "name": name,
        "state": _state_text(remaining),
        "claims": remaining.claims,
        "holders": [holder._asdict() for holder in remaining.holders],
        "poolCount": remaining.pool_count,
        "pools": list(remaining.pools),
        "workflowId": _id(kind, name),
        "execution": status,
    }
