"""``orbctl workflow``: shows and changes workflow executions."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import json

from core.errors import BadInput
from ops.cli.action_runner import perform
from ops.cli.execution_views import (
    EVENT_COLUMNS,
    LIST_COLUMNS,
    execution_row,
    head_document,
    print_description,
    timeline,
)
from ops.cli.output import TableColumn, print_names, show_table, show_value
from ops.cli.time_arguments import parse_time
from ops.cli.workflow_calls import (
    Arguments,
    Queue,
    change_execution,
    check_workflow_type,
    engine_errors,
    parse_argument,
    workflow_client,
)
from workflows.engine.client.client import Client
from workflows.engine.client.visibility import PAGE_SIZE, AttributeRange, Filter, Visibility
from workflows.engine.store.archive_files import ARCHIVE_FOLDER, ExecutionFiles
from workflows.engine.store.keys import WorkflowKeys
from workflows.model.history_json import to_json
from workflows.model.policies import ExecutionStatus

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(
    no_args_is_help=True, help="Show, signal, query, cancel or reset workflow executions."
)

Id = Annotated[str, typer.Argument(help="workflow id")]
Run = Annotated[str, typer.Option("--run", help="run id; the newest run by default")]
Reason = Annotated[str, typer.Option("--reason", help="the reason, stored in the history")]

Type = Annotated[str, typer.Option("--type", help="only this type")]
Status = Annotated[
    list[str] | None, typer.Option("--status", help="only this status, such as Paused")
]
Attribute = Annotated[
    list[str] | None,
    typer.Option("--attribute", help="a search attribute: NAME=VALUE, NAME>=VALUE or NAME<VALUE"),
]
Since = Annotated[
    str, typer.Option(help="only executions started after this time (14:03, 15m, ISO 8601)")
]
Until = Annotated[str, typer.Option(help="only executions started before this time")]

_ATTRIBUTE = re.compile(r"([^=<>]+)(>=|<|=)(?!=)(.*)", re.DOTALL)
"""``<=`` and ``==`` are no operators: a value that begins with ``=`` needs quotes of JSON."""

_COUNT_COLUMNS = (
    TableColumn("TYPE"),
    TableColumn("STATUS"),
    TableColumn("EXECUTIONS", right=True),
)


@app.command(name="list")
def list_(
    context: typer.Context,
    workflow_type: Type = "",
    status: Status = None,
    attribute: Attribute = None,
    since: Since = "",
    until: Until = "",
    limit: Annotated[
        int, typer.Option(min=1, max=PAGE_SIZE, help="list at most this many executions")
    ] = PAGE_SIZE,
    after: Annotated[
        str, typer.Option(help="continue after this execution of a truncated list")
    ] = "",
    queue: Queue = "default",
) -> None:
    """List executions, the newest first.

    Examples:
      orbctl workflow list
      orbctl workflow list --type reclaim-pod --status Running
      orbctl workflow list --status Paused --since 1d -o wide
      orbctl workflow list --attribute 'ReclaimKept>=100'
    """
    conditions = _filter(workflow_type, status or [], attribute or [])

    async def action(session: ClusterSession) -> None:
        visibility = _visibility(session, queue)
        started_ms = _started_ms(since, until, session.now_ms())
        page = await visibility.page(conditions._replace(started_ms=started_ms), after, limit)
        heads = page.heads
        if session.output.is_structured:
            document = {"executions": [head_document(head) for head in heads]}
            show_value(document | ({"next": page.next} if page.next else {}), session.output)
        elif session.output.is_name:
            print_names(head.workflow_id for head in heads)
        else:
            rows = [execution_row(head, session.now_ms()) for head in heads]
            show_table(LIST_COLUMNS, rows, session.output)
        if page.next and not session.output.is_structured:
            print(f"more executions: --after {page.next}", file=sys.stderr)
        for error in visibility.left_out:
            print(f"left out: {error}", file=sys.stderr)

    perform(context, action)


@app.command()
def count(
    context: typer.Context,
    workflow_type: Type = "",
    status: Status = None,
    attribute: Attribute = None,
    since: Since = "",
    until: Until = "",
    queue: Queue = "default",
) -> None:
    """Count executions by type and status.

    Examples:
      orbctl workflow count
      orbctl workflow count --since 1h --status Failed -o json
    """
    conditions = _filter(workflow_type, status or [], attribute or [])

    async def action(session: ClusterSession) -> None:
        visibility = _visibility(session, queue)
        started_ms = _started_ms(since, until, session.now_ms())
        by_type = await visibility.count(conditions._replace(started_ms=started_ms))
        counts = sorted(by_type.items())
        if session.output.is_structured:
            rows = [
                {"type": kind, "status": status.value, "executions": number}
                for (kind, status), number in counts
            ]
            show_value({"counts": rows}, session.output)
        else:
            show_table(
                _COUNT_COLUMNS,
                [(kind, status.value, f"{number:,}") for (kind, status), number in counts],
                session.output,
            )
        for error in visibility.left_out:
            print(f"left out: {error}", file=sys.stderr)

    perform(context, action)


@app.command()
def describe(
    context: typer.Context, workflow_id: Id, run: Run = "", queue: Queue = "default"
) -> None:
    """Show the status of an execution, and what it waits for.

    Examples:
      orbctl workflow describe reclaim
    """

    async def action(session: ClusterSession) -> None:
        description = await _visibility(session, queue).describe(workflow_id, run)
        if session.output.is_structured:
            show_value(head_document(description.head), session.output)
        else:
            print_description(description, session.now_ms())

    perform(context, action)


@app.command()
def history(
    context: typer.Context, workflow_id: Id, run: Run = "", queue: Queue = "default"
) -> None:
    """Show the timeline of one run; for an archived run, give --run.

    Examples:
      orbctl workflow history reclaim
      orbctl workflow history reclaim -o json
    """

    async def action(session: ClusterSession) -> None:
        head, events = await _visibility(session, queue).history(workflow_id, run)
        if session.output.is_structured:
            show_value({"runId": head.run_id, **json.decode(to_json(events))}, session.output)
        else:
            show_table(EVENT_COLUMNS, timeline(events, wide=session.output.is_wide), session.output)

    perform(context, action)


@app.command()
def start(
    context: typer.Context,
    workflow_type: Annotated[str, typer.Argument(help="workflow type that workers registered")],
    workflow_id: Id,
    arguments: Arguments = None,
    queue: Queue = "default",
) -> None:
    """Start an execution; no open execution may have the same id.

    Examples:
      orbctl workflow start pool-retirement retire/pool/lan '["lan"]'
    """
    values = [parse_argument(text) for text in arguments or []]

    async def action(session: ClusterSession) -> None:
        await check_workflow_type(session, queue, workflow_type)
        with engine_errors():
            async with workflow_client(session, queue) as client:
                handle = await client.start(workflow_type, *values, id=workflow_id)
        print(f"started run {handle.run_id}")

    perform(context, action)


@app.command()
def signal(
    context: typer.Context,
    workflow_id: Id,
    name: Annotated[str, typer.Argument(help="name of the signal")],
    arguments: Arguments = None,
    queue: Queue = "default",
) -> None:
    """Send a signal to an open execution.

    Examples:
      orbctl workflow signal reclaim scan-now
    """
    values = [parse_argument(text) for text in arguments or []]
    change_execution(
        context, queue, lambda client: client.signal(workflow_id, name, *values), "signalled"
    )


@app.command()
def query(
    context: typer.Context,
    workflow_id: Id,
    name: Annotated[str, typer.Argument(help="name of the query")],
    arguments: Arguments = None,
    queue: Queue = "default",
) -> None:
    """Query an execution; needs a running worker.

    Examples:
      orbctl workflow query reclaim status
    """
    values = [parse_argument(text) for text in arguments or []]
    _print_result(context, queue, lambda client: client.query(workflow_id, name, *values))


@app.command()
def update(
    context: typer.Context,
    workflow_id: Id,
    name: Annotated[str, typer.Argument(help="name of the update")],
    arguments: Arguments = None,
    update_id: Annotated[
        str,
        typer.Option(
            "--update-id", help="id of the update; an update with the same id runs only once"
        ),
    ] = "",
    queue: Queue = "default",
) -> None:
    """Send an update to an execution and print its result; needs a running worker.

    The example is for the workflow of docs/tutorials/write-a-workflow.md: Orbweaver's own workflows
    have no updates.

    Examples:
      orbctl workflow update order/1 approve Bob --update-id 1 --cluster shop
    """
    values = [parse_argument(text) for text in arguments or []]
    _print_result(
        context,
        queue,
        lambda client: client.update(workflow_id, name, *values, update_id=update_id),
    )


@app.command()
def cancel(
    context: typer.Context, workflow_id: Id, reason: Reason = "", queue: Queue = "default"
) -> None:
    """Request cancellation of an execution: its workflow code decides how it ends.

    Examples:
      orbctl workflow cancel reclaim --reason maintenance
    """
    change_execution(
        context, queue, lambda client: client.cancel(workflow_id, reason), "cancellation requested"
    )


@app.command()
def terminate(
    context: typer.Context, workflow_id: Id, reason: Reason = "", queue: Queue = "default"
) -> None:
    """Terminate an execution immediately, without running its workflow code.

    Examples:
      orbctl workflow terminate reclaim --reason 'it does not end'
    """
    change_execution(
        context, queue, lambda client: client.terminate(workflow_id, reason), "terminated"
    )


@app.command()
def pause(
    context: typer.Context, workflow_id: Id, reason: Reason = "", queue: Queue = "default"
) -> None:
    """Pause an execution: its code waits until `retry`; signals are recorded meanwhile.

    Examples:
      orbctl workflow pause reclaim --reason 'etcd is moved'
    """
    change_execution(context, queue, lambda client: client.pause(workflow_id, reason), "paused")


@app.command()
def retry(
    context: typer.Context, workflow_id: Id, reason: Reason = "", queue: Queue = "default"
) -> None:
    """Resume a paused execution; the attempts of its activities are counted from 1 again.

    Examples:
      orbctl workflow retry reclaim --reason 'etcd is back'
    """
    change_execution(context, queue, lambda client: client.retry(workflow_id, reason), "resumed")


@app.command()
def reset(
    context: typer.Context,
    workflow_id: Id,
    event: Annotated[
        int,
        typer.Option(
            "--event", help="number of an event; the last workflow task up to this event runs again"
        ),
    ],
    run: Run = "",
    reason: Reason = "",
    queue: Queue = "default",
) -> None:
    """Reset an execution: a new run continues from an earlier event of the history.

    Examples:
      orbctl workflow reset reclaim --event 12
    """
    change_execution(
        context,
        queue,
        lambda client: client.reset(workflow_id, event, run_id=run, reason=reason),
        "reset to new run",
    )


def _visibility(session: ClusterSession, queue: str) -> Visibility:
    files = ExecutionFiles(session.settings.archive / ARCHIVE_FOLDER)
    return Visibility(session.store, WorkflowKeys(session.keys, queue), files)


def _print_result(
    context: typer.Context, queue: str, call: Callable[[Client], Awaitable[object]]
) -> None:

    async def action(session: ClusterSession) -> None:
        with engine_errors():
            async with workflow_client(session, queue) as client:
                encoded = json.encode(await call(client))
        if session.output.is_structured:
            show_value(json.decode(encoded), session.output)
        else:
            print(encoded.decode())

    perform(context, action)


def _statuses(names: list[str]) -> tuple[Any, ...]:
    by_name = {status.value.lower(): status for status in ExecutionStatus}
    unknown = [name for name in names if name.lower() not in by_name]
    if unknown:
        raise BadInput(
            f"{unknown[0]!r} is not a status of an execution",
            subject="--status",
            remedy=f"use {', '.join(status.value for status in ExecutionStatus)}",
        )
    return tuple(by_name[name.lower()] for name in names)


def _filter(workflow_type: str, status: list[str], attribute: list[str]) -> Filter:
    equal: dict[str, Any] = {}
    ranges = []
    for text in attribute:
        match = _ATTRIBUTE.fullmatch(text)
        if match is None:
            raise BadInput(
                f"{text!r} is not NAME=VALUE, NAME>=VALUE or NAME<VALUE",
                subject="--attribute",
                remedy="use one of these operators, such as in 'ReclaimKept>=100'",
            )
        name, operator, value = match[1], match[2], parse_argument(match[3])
        if operator == "=":
            equal[name] = value
        else:
            bounds = (value, None) if operator == ">=" else (None, value)
            ranges.append(AttributeRange(name, *bounds))
    return Filter(workflow_type, _statuses(status), equal, ranges=tuple(ranges))


def _started_ms(since: str, until: str, now_ms: int) -> tuple[int, int]:
    """The range of start times in Unix milliseconds; 0: no limit."""
    return (
        parse_time(since, now_ms) if since else 0,
        parse_time(until, now_ms) if until else 0,
    )
