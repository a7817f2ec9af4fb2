"""The addresses that Pods of a node released before an instant. Pure."""

from __future__ import annotations

from core.audit.holding_table import HoldingTable
from core.audit.indexed_log import LogInstant
from core.domain.addresses.ip_address import format_address
from ops.console.json_values import Document, instant_at, instant_document
from ops.console.pod_answers import namespace_and_name


def released_answer(instant: LogInstant, node: str, limit: int) -> Document:
    """``ReleasedAnswer`` of console-api.yaml, the latest release first."""
    ended = [
        (table.ended(row), pool, table, row)
        for pool, table in instant.log.holdings.items()
        for row in table.rows_ended_on(node, instant.position, limit + 1)
    ]
    ended.sort(key=lambda item: (-item[0], item[1], item[3]))
    return {
        "at": instant_document(instant),
        "items": [_item(instant, pool, table, row) for _, pool, table, row in ended[:limit]],
        "truncated": len(ended) > limit,
    }


def _item(instant: LogInstant, pool: str, table: HoldingTable, row: int) -> Document:
    holding, clock = table.holding(row), instant.log.clock
    newest = instant.log.pools.current_or_deleted(pool)
    pod = namespace_and_name(holding.holder.pod)
    return {
        "address": format_address(newest.family if newest is not None else 4, holding.value),
        "pool": pool,
        "namespace": pod["namespace"],
        "pod": pod["name"],
        "since": instant_at(holding.began, clock.time_of(holding.began)),
        "until": instant_at(holding.ended, clock.time_of(holding.ended)),
    }
