"""The routes of the console's API (docs/reference/console-api.yaml) that answer for one instant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from core.audit.history_entries import HistorySubject, SubjectKind
from core.audit.indexed_log import LogInstant
from core.domain.addresses.ip_address import require_address
from core.domain.coordinators import COORDINATOR_KIND
from core.errors import BadInput, StoreError
from ops.console.console_data import ConsoleSource
from ops.console.coordinators import coordinator_page
from ops.console.events import EventPosition, events_after, events_before, parse_event_position
from ops.console.grid import CELLS_DEFAULT, GRID_ADDRESSES_MAX, grid
from ops.console.json_values import COUNT_MAX, LIMIT_DEFAULT, LIMIT_MAX, Document, PageRequest
from ops.console.log_extent import BUCKETS_DEFAULT, BUCKETS_MAX, log_extent
from ops.console.overview import agent_page, overview
from ops.console.pod_answers import (
    AddressFilter,
    address_answer,
    address_page,
    pod_answer,
    pod_page,
    released_answer,
    timeline,
)
from ops.console.pool_answers import (
    PoolsAt,
    pool_answer,
    pool_page,
    reservation_page,
    subnet_answer,
    subnet_page,
)
from ops.console.request_parameters import EVENT_PARAMETERS, PAGE_PARAMETERS, ConsoleQuery
from ops.console.search import HITS_DEFAULT, HITS_MAX, parse_query, search, trace_of
from ops.console.workflow_answers import (
    executions_at,
    matching_executions,
    parse_statuses,
    workflow_answer,
    workflow_page,
)
from workflows.engine.client.visibility import Filter
from workflows.engine.store.records import RunHead
from workflows.model.errors import LimitExceeded

Handler = Callable[[ConsoleSource, LogInstant, ConsoleQuery], Awaitable[Document]]


class ConsoleRoute(NamedTuple):
    """A path below ``/api/v1``, its query parameters, and its handler."""

    path: str
    parameters: frozenset[str]
    answer: Handler


async def _log(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    buckets = query.number("buckets", BUCKETS_DEFAULT, BUCKETS_MAX)
    window = query.text("from"), query.text("to")
    return log_extent(source.log, instant, source.cluster, buckets, window)


async def _overview(source: ConsoleSource, instant: LogInstant, _: ConsoleQuery) -> Document:
    present = await source.present() if instant.is_now else None
    return overview(source.pools(instant), present)


async def _pool(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return pool_answer(source.pools(instant), query.path("name"))


async def _grid(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    cells = query.number("cells", CELLS_DEFAULT, GRID_ADDRESSES_MAX)
    first, last = query.text("first"), query.text("last")
    return grid(source.pools(instant), query.path("name"), first, last, cells)


async def _subnet(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return subnet_answer(source.pools(instant), query.path("name"))


def _page_from_instant(make_page: Callable[[LogInstant, PageRequest], Document]) -> Handler:
    async def answer(_: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
        return make_page(instant, query.page())

    return answer


def _page_from_pools(make_page: Callable[[PoolsAt, PageRequest], Document]) -> Handler:
    async def answer(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
        return make_page(source.pools(instant), query.page())

    return answer


async def _addresses(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    state = query.text("state")
    if state not in {"", "allocated", "resting"}:  # resting: in cool-down
        raise BadInput(
            f"addresses of the state {state[:64]!r} cannot be listed",
            subject="state",
            remedy="list allocated or resting; the grid of a pool shows every state",
        )
    names = ("pool", "namespace", "node")
    matching = AddressFilter(state, *(query.text(name) for name in names))
    return address_page(source.pools(instant), matching, query.page())


async def _address(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return address_answer(source.pools(instant), str(require_address(query.path("address"))))


async def _pods(_: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return pod_page(instant, query.text("namespace"), query.page())


async def _pod(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return await pod_answer(source.log.view, instant, query.path("namespace"), query.path("name"))


async def _released(_: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    limit = query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)
    return released_answer(instant, query.path("name"), limit)


def _timeline(subject_of: Callable[[ConsoleQuery], HistorySubject]) -> Handler:
    async def answer(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
        return await timeline(source.log.view, instant, subject_of(query))

    return answer


def _timeline_by_name(kind: SubjectKind, prefix: str = "") -> Handler:
    return _timeline(lambda query: HistorySubject(kind, prefix + query.path("name")))


def _timeline_by_namespace_and_name(kind: SubjectKind) -> Handler:
    return _timeline(
        lambda query: HistorySubject(kind, f"{query.path('namespace')}/{query.path('name')}")
    )


async def _workflows(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    statuses = parse_statuses(query.texts("status"))
    matching = Filter(query.text("type"), statuses, id_prefix=query.text("id"))
    return await workflow_page(source, instant, matching, query.page())


async def _workflow(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    return await workflow_answer(source, instant, query.path("id"), query.text("run"))


async def _search(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    text, limit = parse_query(query.text("q")), query.number("limit", HITS_DEFAULT, HITS_MAX)
    executions: list[RunHead] = []
    search_fault = ""
    try:
        executions = await matching_executions(executions_at(source, instant), text, trace_of(text))
    except (StoreError, LimitExceeded) as error:
        # The answer has the objects of the log, and no workflows.
        search_fault = f"workflows: {error}"
    return search(instant, text, limit, executions) | {"leftOut": search_fault}


async def _events(source: ConsoleSource, instant: LogInstant, query: ConsoleQuery) -> Document:
    conditions, page = query.conditions(), query.page()
    cursor = parse_event_position(page.cursor) if page.cursor else None
    after: EventPosition | None = None
    if query.text("after"):
        after = parse_event_position(str(query.number("after", 0, COUNT_MAX, least=0)))
    since = (await source.instant(query.text("since"))).position if query.text("since") else 0
    if after is not None:
        return await events_after(source.log, instant, cursor or after, conditions, page.limit)
    return await events_before(source.log, instant, cursor, conditions, page.limit, since)


_AT: Final = frozenset(("at",))

CONSOLE_ROUTES: Final = (
    ConsoleRoute("/log", frozenset(("buckets", "from", "to")), _log),
    ConsoleRoute("/overview", _AT, _overview),
    ConsoleRoute("/pools", _AT | PAGE_PARAMETERS, _page_from_pools(pool_page)),
    ConsoleRoute("/pools/{name}", _AT, _pool),
    ConsoleRoute("/pools/{name}/timeline", _AT, _timeline_by_name("pool")),
    ConsoleRoute("/pools/{name}/addresses", _AT | {"first", "last", "cells"}, _grid),
    ConsoleRoute("/subnets", _AT | PAGE_PARAMETERS, _page_from_pools(subnet_page)),
    ConsoleRoute("/subnets/{name}", _AT, _subnet),
    ConsoleRoute("/subnets/{name}/timeline", _AT, _timeline_by_name("subnet")),
    ConsoleRoute("/reservations", _AT | PAGE_PARAMETERS, _page_from_pools(reservation_page)),
    ConsoleRoute("/reservations/{name}/timeline", _AT, _timeline_by_name("reservation")),
    ConsoleRoute("/coordinators", _AT | PAGE_PARAMETERS, _page_from_instant(coordinator_page)),
    ConsoleRoute(
        "/coordinators/{name}/timeline", _AT, _timeline_by_name("record", f"{COORDINATOR_KIND}/")
    ),
    ConsoleRoute(
        "/applications/{namespace}/{name}/timeline",
        _AT,
        _timeline_by_namespace_and_name("application"),
    ),
    ConsoleRoute("/nodes/{name}/released", _AT | {"limit"}, _released),
    ConsoleRoute("/agents", _AT | PAGE_PARAMETERS, _page_from_instant(agent_page)),
    ConsoleRoute(
        "/addresses", _AT | PAGE_PARAMETERS | {"state", "pool", "namespace", "node"}, _addresses
    ),
    ConsoleRoute("/addresses/{address}", _AT, _address),
    ConsoleRoute(
        "/addresses/{address}/timeline",
        _AT,
        _timeline(
            lambda query: HistorySubject("address", str(require_address(query.path("address"))))
        ),
    ),
    ConsoleRoute("/pods", _AT | PAGE_PARAMETERS | {"namespace"}, _pods),
    ConsoleRoute("/pods/{namespace}/{name}", _AT, _pod),
    ConsoleRoute("/pods/{namespace}/{name}/timeline", _AT, _timeline_by_namespace_and_name("pod")),
    ConsoleRoute("/workflows", _AT | PAGE_PARAMETERS | {"status", "type", "id"}, _workflows),
    ConsoleRoute("/workflows/{id:.+}", _AT | {"run"}, _workflow),
    ConsoleRoute("/search", _AT | {"q", "limit"}, _search),
    ConsoleRoute("/events", _AT | PAGE_PARAMETERS | EVENT_PARAMETERS | {"after", "since"}, _events),
)
