"""``orbctl forecast``: when pools and subnets will be full. Writes nothing.

Reads the log of the last four weeks. The method is in ``core.domain.forecast``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.pool_growth import GrowthLog, GrowthSubject
from core.domain.evolution import Ledger
from core.domain.forecast import (
    FULL_NOW,
    Forecast,
    NoTrend,
    forecast_exhaustion,
    horizon_of,
    last_days,
)
from core.domain.subnets.subnet_model import count_addresses
from core.errors import NotFound
from core.eventstore.state_reader import read_configuration
from ops.cli.action_runner import perform
from ops.cli.exit_codes import Exit, report, report_unreadable_parts
from ops.cli.formats import Output
from ops.cli.kinds import ObjectKind, kind_of
from ops.cli.name_completion import complete_kind, complete_names
from ops.cli.output import TableColumn, duration, moment, print_names, show_table, show_value
from ops.cli.pool_usage import count_pools

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

_KINDS: Final = {ObjectKind.POOL: "pool", ObjectKind.SUBNET: "subnet"}
_COLUMNS: Final = (
    TableColumn("NAME"),
    TableColumn("FREE", right=True),
    TableColumn("GROWTH/DAY", right=True),
    TableColumn("FULL-IN", right=True),
    TableColumn("EARLIEST"),
    TableColumn("LATEST"),
    TableColumn("BASIS"),
)


class _SubjectForecast(NamedTuple):
    subject: GrowthSubject
    free: int
    forecast: Forecast | NoTrend


def forecast_command(
    context: typer.Context,
    kind: Annotated[
        str, typer.Argument(help="pool or subnet; default: both", autocompletion=complete_kind)
    ] = "",
    names: Annotated[
        list[str] | None, typer.Argument(help="names; default: all", autocompletion=complete_names)
    ] = None,
) -> None:
    """Show when pools and subnets will be full.

    The forecast is based on the growth in the last weeks. With a probability of 80 %, the pool or
    subnet will be full between EARLIEST and LATEST. If chance can explain the growth, there is no
    forecast, and BASIS has the reason.

    Examples:
      orbctl forecast
      orbctl forecast pool lan
      orbctl forecast subnet -o json
    """
    kinds = [_KINDS[kind_of(kind, tuple(_KINDS))]] if kind else list(_KINDS.values())

    async def action(session: ClusterSession) -> Exit:
        forecasts = await session.read(lambda: _read(session, kinds))
        missing = [
            NotFound(
                f"there is no {kinds[0]} {name}",
                subject=name,
                remedy=f"`orbctl get {kinds[0]}s` lists the {kinds[0]}s",
            )
            for name in dict.fromkeys(names or ())
            if name not in {subject.name for subject, _, _ in forecasts}
        ]
        shown = [
            subject_forecast
            for subject_forecast in forecasts
            if not names or subject_forecast.subject.name in names
        ]
        if shown or not names or session.output.is_structured:
            _show(shown, session.now_ms(), session.output)
        return max((report(error) for error in missing), default=Exit.OK)

    perform(context, action)


async def times_until_full(session: ClusterSession) -> dict[str, str]:
    """Pools with a forecast: name -> rounded time until the pool is full, such as <7d.

    Raises LogCorrupt, LogGap, Compacted, StoreUnavailable.
    """
    forecasts = await session.read(lambda: _read(session, ("pool",)))
    horizons = {subject.name: horizon_of(forecast) for subject, _, forecast in forecasts}
    return {name: horizon.short for name, horizon in horizons.items() if horizon is not None}


async def _read(session: ClusterSession, kinds: Sequence[str]) -> list[_SubjectForecast]:
    now_ms = session.now_ms()
    growth = GrowthLog()
    unread = UnreadPartList()
    view = await open_log(session.store, session.keys, session.archive, unread=unread)
    await growth.read(view, now_ms)
    report_unreadable_parts(unread)
    ledger = Ledger()
    await read_configuration(session.store, session.keys, ledger)
    free = {
        GrowthSubject("subnet", name): count_addresses(subnet, ledger.pools).free
        for name, subnet in ledger.subnets.items()
    }
    if "pool" in kinds:
        usage = await count_pools(session.store, session.keys, ledger, list(ledger.pools.values()))
        free |= {GrowthSubject("pool", name): pool.free for name, pool in usage.items()}
    return [
        _SubjectForecast(
            subject, free_count, forecast_exhaustion(growth.net_growth(subject, now_ms), free_count)
        )
        for subject, free_count in sorted(free.items())
        if subject.kind in kinds
    ]


def _show(forecasts: Sequence[_SubjectForecast], now_ms: int, output: Output) -> None:
    if output.is_name:
        print_names(f"{subject.kind}/{subject.name}" for subject, _, _ in forecasts)
    elif output.is_structured:
        items = [_plain(subject_forecast, now_ms) for subject_forecast in forecasts]
        show_value({"items": items}, output)
    elif forecasts:
        show_table(_COLUMNS, _rows(forecasts, now_ms), output)
    else:
        typer.echo("there is no pool or subnet to forecast", err=True)


def _rows(forecasts: Sequence[_SubjectForecast], now_ms: int) -> Iterator[Sequence[str]]:
    for subject, free, forecast in forecasts:
        name = f"{subject.kind}/{subject.name}"
        if isinstance(forecast, NoTrend):
            yield name, str(free), "-", "-", "-", "-", forecast.reason
        elif forecast == FULL_NOW:
            yield name, str(free), "-", "full", "-", "-", "-"
        else:
            yield (
                name,
                str(free),
                f"{forecast.per_day:+.1f}",
                duration(int(forecast.expected_s * 1000)),
                moment(now_ms + int(forecast.earliest_s * 1000)),
                moment(now_ms + int(forecast.latest_s * 1000)),
                last_days(forecast.days),
            )


def _plain(subject_forecast: _SubjectForecast, now_ms: int) -> dict[str, Any]:
    subject, free, forecast = subject_forecast
    plain: dict[str, Any] = {"kind": subject.kind, "name": subject.name, "free": free}
    if isinstance(forecast, NoTrend):
        return plain | {"noTrend": forecast.reason}
    return plain | {
        "growthPerDay": round(forecast.per_day, 3),
        "basisDays": forecast.days,
        "fullInSeconds": round(forecast.expected_s),
        "earliest": moment(now_ms + int(forecast.earliest_s * 1000)),
        "expected": moment(now_ms + int(forecast.expected_s * 1000)),
        "latest": moment(now_ms + int(forecast.latest_s * 1000)),
    }
