"""The routes of the console's API (docs/reference/console-api.yaml).

A handler takes the parameters of one path and returns a document from a ``ConsoleSource``. HTTP
itself is in ``ops.console.web_server``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from core.audit.history_entries import HistorySubject
from core.domain.coordinators import COORDINATOR_KIND
from core.errors import BadInput, StoreError
from ops.console.coordinators import coordinator_page
from ops.console.events import EventPosition, events_after, events_before, parse_event_position
from ops.console.grid import CELLS_DEFAULT, GRID_ADDRESSES_MAX, grid
from ops.console.log_extent import BUCKETS_DEFAULT, BUCKETS_MAX, log_extent
from ops.console.overview import agent_page, overview
from ops.console.pods import (
    AddressFilter,
    address_answer,
    address_page,
    pod_answer,
    pod_page,
    timeline,
)
from ops.console.pools import pool_answer, pool_page, reservation_page, subnet_answer, subnet_page
from ops.console.query import EVENT_CONDITIONS, PAGED, ConsoleQuery
from ops.console.released_addresses import released_answer
from ops.console.search import HITS_DEFAULT, HITS_MAX, parse_query, search, trace_of
from ops.console.source import ConsoleSource
from ops.console.values import COUNT_MAX, LIMIT_DEFAULT, LIMIT_MAX, Document
from ops.console.workflows import (
    executions_at,
    matching_executions,
    parse_statuses,
    workflow_answer,
    workflow_page,
)
from workflows.engine.client.visibility import Filter
from workflows.engine.store.records import RunHead
from workflows.model.errors import LimitExceeded

Handler = Callable[[ConsoleSource, ConsoleQuery], Awaitable[Document]]


class ConsoleRoute(NamedTuple):
    """A path below ``/api/v1``, its parameters, and its handler."""

    path: str
    parameters: frozenset[str]
    answer: Handler


async def _log(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant("")
    buckets = query.number("buckets", BUCKETS_DEFAULT, BUCKETS_MAX)
    window = query.text("from"), query.text("to")
    return log_extent(source.log, instant, source.cluster, buckets, window)


async def _overview(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    present = await source.present() if instant.is_now else None
    return overview(source.pools(instant), present)


async def _pools(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return pool_page(source.pools(await source.instant(query.text("at"))), query.page())


async def _pool(source: ConsoleSource, query: ConsoleQuery) -> Document:
    pools = source.pools(await source.instant(query.text("at")))
    return pool_answer(pools, query.path("name"))


async def _grid(source: ConsoleSource, query: ConsoleQuery) -> Document:
    pools = source.pools(await source.instant(query.text("at")))
    cells = query.number("cells", CELLS_DEFAULT, GRID_ADDRESSES_MAX)
    return grid(pools, query.path("name"), query.text("first"), query.text("last"), cells)


async def _subnets(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return subnet_page(source.pools(await source.instant(query.text("at"))), query.page())


async def _subnet(source: ConsoleSource, query: ConsoleQuery) -> Document:
    pools = source.pools(await source.instant(query.text("at")))
    return subnet_answer(pools, query.path("name"))


async def _reservations(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return reservation_page(source.pools(await source.instant(query.text("at"))), query.page())


async def _agents(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return agent_page(await source.instant(query.text("at")), query.page())


async def _addresses(source: ConsoleSource, query: ConsoleQuery) -> Document:
    state = query.text("state")
    if state not in {"", "allocated", "resting"}:
        raise BadInput(
            f"addresses of the state {state[:64]!r} cannot be listed",
            subject="state",
            remedy="list allocated or resting; the grid of a pool shows every state",
        )
    pools = source.pools(await source.instant(query.text("at")))
    names = ("pool", "namespace", "node")
    matching = AddressFilter(state, *(query.text(name) for name in names))
    return address_page(pools, matching, query.page())


async def _address(source: ConsoleSource, query: ConsoleQuery) -> Document:
    pools = source.pools(await source.instant(query.text("at")))
    return address_answer(pools, query.address(query.path("address")))


async def _pods(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    return pod_page(instant, query.text("namespace"), query.page())


async def _pod(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    return await pod_answer(source.log.view, instant, query.path("namespace"), query.path("name"))


async def _timeline(
    source: ConsoleSource, query: ConsoleQuery, subject: HistorySubject
) -> Document:
    instant = await source.instant(query.text("at"))
    return await timeline(source.log.view, instant, subject)


async def _released(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    limit = query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)
    return released_answer(instant, query.path("name"), limit)


async def _subnet_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return await _timeline(source, query, HistorySubject("subnet", query.path("name")))


async def _reservation_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return await _timeline(source, query, HistorySubject("reservation", query.path("name")))


async def _coordinators(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return coordinator_page(await source.instant(query.text("at")), query.page())


async def _coordinator_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    name = f"{COORDINATOR_KIND}/{query.path('name')}"
    return await _timeline(source, query, HistorySubject("record", name))


async def _application_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    name = f"{query.path('namespace')}/{query.path('name')}"
    return await _timeline(source, query, HistorySubject("application", name))


async def _pool_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    return await _timeline(source, query, HistorySubject("pool", query.path("name")))


async def _address_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    address = query.address(query.path("address"))
    return await _timeline(source, query, HistorySubject("address", address))


async def _pod_timeline(source: ConsoleSource, query: ConsoleQuery) -> Document:
    name = f"{query.path('namespace')}/{query.path('name')}"
    return await _timeline(source, query, HistorySubject("pod", name))


async def _workflows(source: ConsoleSource, query: ConsoleQuery) -> Document:
    statuses = parse_statuses(query.texts("status"))
    matching = Filter(query.text("type"), statuses, id_prefix=query.text("id"))
    instant = await source.instant(query.text("at"))
    return await workflow_page(source, instant, matching, query.page())


async def _workflow(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    return await workflow_answer(source, instant, query.path("id"), query.text("run"))


async def _search(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    text, limit = parse_query(query.text("q")), query.number("limit", HITS_DEFAULT, HITS_MAX)
    executions: list[RunHead] = []
    search_fault = ""
    try:
        executions = await matching_executions(executions_at(source, instant), text, trace_of(text))
    # Without the executions, the answer still has the objects of the log.
    except (StoreError, LimitExceeded) as error:
        search_fault = f"workflows: {error}"
    return search(instant, text, limit, executions) | {"leftOut": search_fault}


async def _events(source: ConsoleSource, query: ConsoleQuery) -> Document:
    instant = await source.instant(query.text("at"))
    conditions, page = query.conditions(), query.page()
    cursor = parse_event_position(page.cursor) if page.cursor else None
    begin: EventPosition | None = None
    if query.text("after"):
        begin = parse_event_position(str(query.number("after", 0, COUNT_MAX, least=0)))
    since = (await source.instant(query.text("since"))).position if query.text("since") else 0
    if begin is not None:
        return await events_after(source.log, instant, cursor or begin, conditions, page.limit)
    return await events_before(source.log, instant, cursor, conditions, page.limit, since)


_AT: Final = frozenset(("at",))

ROUTES: Final = (
    ConsoleRoute("/log", frozenset(("buckets", "from", "to")), _log),
    ConsoleRoute("/overview", _AT, _overview),
    ConsoleRoute("/pools", _AT | PAGED, _pools),
    ConsoleRoute("/pools/{name}", _AT, _pool),
    ConsoleRoute("/pools/{name}/timeline", _AT, _pool_timeline),
    ConsoleRoute("/pools/{name}/addresses", _AT | {"first", "last", "cells"}, _grid),
    ConsoleRoute("/subnets", _AT | PAGED, _subnets),
    ConsoleRoute("/subnets/{name}", _AT, _subnet),
    ConsoleRoute("/subnets/{name}/timeline", _AT, _subnet_timeline),
    ConsoleRoute("/reservations", _AT | PAGED, _reservations),
    ConsoleRoute("/reservations/{name}/timeline", _AT, _reservation_timeline),
    ConsoleRoute("/coordinators", _AT | PAGED, _coordinators),
    ConsoleRoute("/coordinators/{name}/timeline", _AT, _coordinator_timeline),
    ConsoleRoute("/applications/{namespace}/{name}/timeline", _AT, _application_timeline),
    ConsoleRoute("/nodes/{name}/released", _AT | {"limit"}, _released),
    ConsoleRoute("/agents", _AT | PAGED, _agents),
    ConsoleRoute("/addresses", _AT | PAGED | {"state", "pool", "namespace", "node"}, _addresses),
    ConsoleRoute("/addresses/{address}", _AT, _address),
    ConsoleRoute("/addresses/{address}/timeline", _AT, _address_timeline),
    ConsoleRoute("/pods", _AT | PAGED | {"namespace"}, _pods),
    ConsoleRoute("/pods/{namespace}/{name}", _AT, _pod),
    ConsoleRoute("/pods/{namespace}/{name}/timeline", _AT, _pod_timeline),
    ConsoleRoute("/workflows", _AT | PAGED | {"status", "type", "id"}, _workflows),
    ConsoleRoute("/workflows/{id:.+}", _AT | {"run"}, _workflow),
    ConsoleRoute("/search", _AT | {"q", "limit"}, _search),
    ConsoleRoute("/events", _AT | PAGED | EVENT_CONDITIONS | {"after", "since"}, _events),
)
"""Every route except the stream of events (``ops.console.web_server``)."""
