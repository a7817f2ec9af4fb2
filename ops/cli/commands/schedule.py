"""``orbctl schedule``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.domain.validation.common_rules import counted
from ops.cli.action_runner import perform
from ops.cli.output import TableColumn, moment, print_fields, print_names, show_table, show_value
from ops.cli.time_arguments import parse_duration
from ops.cli.workflow_calls import (
    Arguments,
    Queue,
    change_execution,
    check_workflow_type,
    engine_errors,
    parse_argument,
    workflow_client,
)
from workflows.engine.client.schedules import ListedSchedule, Schedules
from workflows.schedules.schedule import (
    CATCHUP_WINDOW_S,
    OverlapPolicy,
    Schedule,
    ScheduleAction,
    ScheduleDescription,
    ScheduleInterval,
    SchedulePolicy,
    ScheduleSpec,
)

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

app = typer.Typer(
    no_args_is_help=True, help="Show, create, pause, trigger or delete schedules of workflows."
)

Id = Annotated[str, typer.Argument(help="schedule id")]
Note = Annotated[str, typer.Option("--note", help="a note for people")]

_COLUMNS: Final = (
    TableColumn("SCHEDULE"),
    TableColumn("TYPE"),
    TableColumn("TIMES"),
    TableColumn("NEXT"),
)


@app.command(name="list")
def list_(context: typer.Context, queue: Queue = "default") -> None:
    """List schedules.

    Examples:
      orbctl schedule list
      orbctl schedule list -o json
    """

    async def action(session: ClusterSession) -> None:
        async with workflow_client(session, queue) as client:
            rows = await Schedules(client).list()
        if session.output.is_structured:
            show_value({"schedules": [row._asdict() for row in rows]}, session.output)
        elif session.output.is_name:
            print_names(row.schedule_id for row in rows)
        else:
            cells = [(row.schedule_id, row.workflow_type, row.spec, _next_of(row)) for row in rows]
            show_table(_COLUMNS, cells, session.output)

    perform(context, action)


def _next_of(row: ListedSchedule) -> str:
    return row.next_time or ("paused" if row.paused else "-")


@app.command()
def describe(context: typer.Context, schedule_id: Id, queue: Queue = "default") -> None:
    """Show past and next starts of a schedule; needs a running worker.

    Examples:
      orbctl schedule describe archive-prune
    """

    async def action(session: ClusterSession) -> None:
        with engine_errors():
            async with workflow_client(session, queue) as client:
                description = await Schedules(client).handle(schedule_id).describe()
        if session.output.is_structured:
            show_value(_document(schedule_id, description), session.output)
        else:
            _print(schedule_id, description)

    perform(context, action)


@app.command()
def create(
    context: typer.Context,
    schedule_id: Id,
    workflow_type: Annotated[str, typer.Argument(help="workflow type that workers registered")],
    arguments: Arguments = None,
    every: Annotated[
        list[str] | None, typer.Option("--every", help="interval, such as 1h; repeatable")
    ] = None,
    cron: Annotated[
        list[str] | None,
        typer.Option("--cron", help="cron expression, such as '0 3 * * *', in UTC; repeatable"),
    ] = None,
    jitter: Annotated[str, typer.Option(help="delay each start by a random time up to this")] = "",
    overlap: Annotated[
        OverlapPolicy, typer.Option(help="what happens while the previous execution runs")
    ] = OverlapPolicy.SKIP,
    catch_up: Annotated[
        str,
        typer.Option(
            "--catch-up", help="starts that are late by more than this are skipped; default: 1d"
        ),
    ] = "",
    pause_on_failure: Annotated[
        bool, typer.Option("--pause-on-failure", help="pause after an execution that failed")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="create it paused")] = False,
    note: Note = "",
    queue: Queue = "default",
) -> None:
    """Create a schedule of a workflow type.

    Examples:
      orbctl schedule create nightly archive-prune --cron '0 3 * * *'
      orbctl schedule create often archive-prune --every 20m --jitter 2m
    """
    spec = ScheduleSpec(
        tuple(ScheduleInterval(parse_duration(text)) for text in every or []),
        tuple(cron or []),
        parse_duration(jitter),
    )
    values = tuple(parse_argument(text) for text in arguments or [])
    window_s = parse_duration(catch_up) if catch_up else CATCHUP_WINDOW_S
    schedule = Schedule(
        ScheduleAction(workflow_type, values),
        spec,
        SchedulePolicy(overlap, window_s, pause_on_failure),
    )

    async def action(session: ClusterSession) -> None:
        await check_workflow_type(session, queue, workflow_type)
        with engine_errors():
            async with workflow_client(session, queue) as client:
                await Schedules(client).create(schedule_id, schedule, paused=paused, note=note)
        print("created")

    perform(context, action)


@app.command()
def pause(
    context: typer.Context, schedule_id: Id, note: Note = "", queue: Queue = "default"
) -> None:
    """Pause a schedule: until `unpause`, only `trigger` starts executions.

    Examples:
      orbctl schedule pause archive-prune --note 'the volume is moved'
    """
    change_execution(
        context, queue, lambda client: Schedules(client).handle(schedule_id).pause(note), "paused"
    )


@app.command()
def unpause(
    context: typer.Context, schedule_id: Id, note: Note = "", queue: Queue = "default"
) -> None:
    """Continue a paused schedule with its next time.

    Examples:
      orbctl schedule unpause archive-prune
    """
    change_execution(
        context,
        queue,
        lambda client: Schedules(client).handle(schedule_id).unpause(note),
        "unpaused",
    )


@app.command()
def trigger(context: typer.Context, schedule_id: Id, queue: Queue = "default") -> None:
    """Start the execution of a schedule now, under its overlap policy.

    Examples:
      orbctl schedule trigger archive-prune
    """
    change_execution(
        context, queue, lambda client: Schedules(client).handle(schedule_id).trigger(), "triggered"
    )


@app.command()
def delete(context: typer.Context, schedule_id: Id, queue: Queue = "default") -> None:
    """Delete a schedule; executions that it has started continue.

    Examples:
      orbctl schedule delete nightly
    """
    change_execution(
        context, queue, lambda client: Schedules(client).handle(schedule_id).delete(), "deleted"
    )


def _document(schedule_id: str, description: ScheduleDescription) -> dict[str, object]:
    schedule, progress, running, next_times_ms = description
    intervals = [interval._asdict() for interval in schedule.spec.intervals]
    recent = [result._asdict() for result in progress.recent]
    return {
        "schedule": schedule_id,
        "action": schedule.action._asdict(),
        "spec": schedule.spec._asdict() | {"intervals": intervals},
        "policy": schedule.policy._asdict(),
        "progress": progress._asdict() | {"recent": recent},
        "running": running,
        "nextMs": next_times_ms,
    }


def _print(schedule_id: str, description: ScheduleDescription) -> None:
    schedule, progress, running, next_times_ms = description
    print_fields(
        [
            ("Schedule", schedule_id),
            ("Starts", schedule.action.workflow_type),
            ("Times", schedule.spec.text),
            ("Overlap", schedule.policy.overlap.value),
            ("State", f"paused: {progress.note}" if progress.paused else progress.note),
            ("Next", ", ".join(moment(at_ms) for at_ms in next_times_ms)),
            ("Running", ", ".join(running)),
            ("Started", counted(progress.actions, "execution")),
            ("Skipped", _count_text(progress.skipped_overlap)),
            ("Missed", _count_text(progress.missed_catchup_window)),
            ("Last", progress.recent[-1].workflow_id if progress.recent else ""),
            ("Fault", progress.fault),
        ]
    )


def _count_text(number: int) -> str:
    return counted(number, "time") if number else ""
