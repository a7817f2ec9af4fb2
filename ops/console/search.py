"""Searches by address, MAC address, trace id, part of a name, or part of a workflow id. Pure.

Objects that exist at the instant come first, then objects that existed earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from core.audit.holding_table import OPEN_END, HoldingTable
from core.audit.indexed_log import LogInstant
from core.audit.log_index import mac_number
from core.domain.addresses.ip_address import (
    AddressSyntaxError,
    Family,
    format_address,
    parse_address,
)
from core.errors import BadInput
from ops.console.json_values import Document, instant_at, instant_document, orbctl_time_text
from workflows.engine.store.records import RunHead

QUERY_CHARS_MIN: Final = 2
QUERY_CHARS_MAX: Final = 253
HITS_MAX: Final = 200
HITS_DEFAULT: Final = 50

POD_ROWS_MAX: Final = 5_000
"""A search divides this number of Pod rows among the pools, and reads the newest rows."""

POOL_SHARE_ROWS_MIN: Final = 50
"""The least share of a pool. Many pools together can exceed ``POD_ROWS_MAX``."""

KIND_CHARS_MIN: Final = 4
"""A prefix of "coordinator" this long or longer finds all coordinators."""

_COORDINATOR_KIND_WORDS: Final = ("spidercoordinator", "coordinator")
_TRACE: Final = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?\Z")
_LOW_HALF: Final = 2**64 - 1
"""The index has only the low 64 bits of a trace id."""


class Hit(NamedTuple):
    """An object that matches. ``ended``: the position of its end, or ``OPEN_END``."""

    kind: str
    name: str
    detail: str
    ended: int = OPEN_END


def parse_query(text: str) -> str:
    """Strip and check a query. Raises BadInput."""
    query = text.strip()
    if not QUERY_CHARS_MIN <= len(query) <= QUERY_CHARS_MAX:
        raise BadInput(
            f"a search needs {QUERY_CHARS_MIN} to {QUERY_CHARS_MAX} characters", subject="q"
        )
    return query


def trace_of(query: str) -> str:
    """The trace id, if the query is a trace id or a traceparent; else ""."""
    trace = _TRACE.match(query.lower())
    return trace[1] if trace else ""


def search(
    instant: LogInstant, query: str, limit: int, executions: Sequence[RunHead] = ()
) -> Document:
    """``SearchAnswer`` of console-api.yaml. ``executions``: newest first."""
    newest: dict[tuple[str, str], Hit] = {}
    for hit in _hits(instant, query):
        key = hit.kind, hit.name
        if key not in newest or hit.ended > newest[key].ended:
            newest[key] = hit
    hits = sorted(newest.values(), key=lambda hit: (-hit.ended, _ORDER.index(hit.kind), hit.name))
    newest_runs: dict[str, RunHead] = {}
    for head in executions:
        newest_runs.setdefault(head.workflow_id, head)
    hits += [
        Hit("workflow", head.workflow_id, f"{head.workflow_type}, {head.status.value}")
        for head in newest_runs.values()
    ]
    return {
        "at": instant_document(instant),
        "query": query,
        "hits": [_document(instant, hit) for hit in hits[:limit]],
        "truncated": len(hits) > limit,
    }


_ORDER: Final = (
    "address",
    "pod",
    "pool",
    "subnet",
    "reservation",
    "coordinator",
    "namespace",
    "application",
    "node",
    "event",
)
"""The order of kinds, for hits that ended at the same position."""


def _document(instant: LogInstant, hit: Hit) -> Document:
    exists = hit.ended == OPEN_END
    last = None if exists else instant_at(hit.ended, instant.log.clock.time_of(hit.ended))
    return {
        "kind": hit.kind,
        "name": hit.name,
        "detail": hit.detail,
        "held": exists,
        "last": last,
    }


def _hits(instant: LogInstant, query: str) -> Iterator[Hit]:
    yield from _objects(instant, query)
    yield from _refused(instant, query.lower())
    trace = trace_of(query)
    low = int(trace, 16) & _LOW_HALF if trace else 0
    if low:
        for position, kind in instant.log.events_with_trace(low):
            if position <= instant.position:
                when = orbctl_time_text(instant.log.clock.time_of(position))
                yield Hit("event", str(position), f"{kind}, {when}")
    mac = mac_number(query)
    value, family = _address(query)
    holdings = instant.log.holdings
    rows_max = max(POOL_SHARE_ROWS_MIN, POD_ROWS_MAX // max(len(holdings), 1))
    for pool, table in holdings.items():
        pool_family = _family(instant, pool)
        rows: list[tuple[str, int]] = []
        if low:
            rows += [("event", row) for row in table.rows_with_trace(low)]
        if mac:
            rows += [("address", row) for row in table.rows_with_mac(mac)]
        if family == pool_family:
            rows += [("address", row) for row in table.rows_of_address(value)]
        begun = table.count_begun(instant.position)
        pods = table.pods.rows_with(query.lower(), rows_max, begun)
        rows += [("pod", row) for row in pods]
        for kind, row in rows:
            yield from _hits_of_row(instant, pool, table, row, kind, query)
        yield from _node_and_application_hits(instant, table, query)


def _hits_of_row(
    instant: LogInstant, pool: str, table: HoldingTable, row: int, kind: str, query: str
) -> Iterator[Hit]:
    holding = table.holding(row)
    if holding.began > instant.position:
        return
    ended = OPEN_END if holding.ended > instant.position else holding.ended
    address = format_address(_family(instant, pool), holding.value)
    pod = holding.holder.pod
    detail = f"{address} ({pool}) on {holding.holder.node}"
    namespace, _, name = pod.partition("/")
    if kind == "address":
        yield Hit("address", address, f"{pod} on {holding.holder.node}, pool {pool}", ended)
    elif kind == "event":
        yield Hit("pod", pod, detail, ended)
        yield Hit("address", address, f"{pod}, pool {pool}", ended)
        yield Hit("event", str(holding.holder.revision), f"claimed {address} for {pod}", ended)
    else:
        if query.lower() in namespace:
            yield Hit("namespace", namespace, "", ended)
        if query.lower() in name or "/" in query:
            yield Hit("pod", pod, detail, ended)


def _node_and_application_hits(
    instant: LogInstant, table: HoldingTable, query: str
) -> Iterator[Hit]:
    for kind, name, row in table.named_rows(query.lower(), instant.position):
        ended = table.ended(row)
        yield Hit(kind, name, "", OPEN_END if ended > instant.position else ended)


def _objects(instant: LogInstant, query: str) -> Iterator[Hit]:
    log, position, text = instant.log, instant.position, query.lower()
    for name, pool in log.pools.at(position).items():
        if text in name.lower() or text in pool.subnet:
            yield Hit("pool", name, pool.subnet)
    for name, subnet in log.subnets.at(position).items():
        if text in name.lower() or text in subnet.subnet:
            yield Hit("subnet", name, subnet.subnet)
    for name, reservation in log.reservations.at(position).items():
        if text in name.lower():
            yield Hit("reservation", name, ", ".join(reservation.ips))
    for name, record in log.coordinators.at(position).items():
        if text in name.lower() or _names_kind(text, _COORDINATOR_KIND_WORDS):
            phase = record.coordinator.phase if record.coordinator is not None else ""
            yield Hit("coordinator", name, phase)
    for address, quarantine in log.quarantine.at(position).items():
        mac = quarantine.conflicting_host.mac if quarantine.conflicting_host else ""
        if text in {address, mac.lower()}:
            yield Hit("address", address, f"in quarantine: {quarantine.reason}")


def _names_kind(text: str, words: Sequence[str]) -> bool:
    singular = text.removesuffix("s")
    return len(text) >= KIND_CHARS_MIN and any(word.startswith(singular) for word in words)


def _refused(instant: LogInstant, text: str) -> Iterator[Hit]:
    """Pods whose ADD was refused. A refusal has no row in a ``HoldingTable``."""
    refusals, position = instant.log.refusals, instant.position
    for pod in refusals.names():
        refusal = refusals.get(pod, position)
        if refusal is not None and text in pod.lower():
            detail = f"no address: {refusal.reason} on {refusal.node}"
            yield Hit("pod", pod, detail, refusals.version_position(pod, position))


def _family(instant: LogInstant, pool: str) -> Family:
    """The family of a pool; 4 if the log does not define the pool."""
    newest = instant.log.pools.current_or_deleted(pool)
    return newest.family if newest is not None else 4


def _address(query: str) -> tuple[int, int]:
    """Value and family; (0, 0) if the text is not an address."""
    try:
        address = parse_address(query)
    except AddressSyntaxError:
        return 0, 0
    return address.value, address.family
