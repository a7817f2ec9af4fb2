"""A search reads a limited number of rows, even with many pools."""

from __future__ import annotations

from core.archive.snapshot import empty_snapshot
from core.audit.compact_texts import NumberedTexts
from core.audit.holding_table import Holder, HoldingTable
from core.audit.indexed_log import LogInstant
from core.audit.log_index import LogIndex
from ops.console.search import POD_ROWS_MAX, POOL_SHARE_ROWS_MIN, search

POOLS = 90
PODS = 120


def crowded_log() -> LogInstant:
    index, names = LogIndex(empty_snapshot()), NumberedTexts()
    for number in range(POOLS):
        table = index.holdings[f"pool-{number}"] = HoldingTable(names)
        for pod in range(PODS):
            holder = Holder(
                f"shop/web-{number}-{pod}",
                "node-a",
                "eth0",
                application="",
                mac=0,
                trace=0,
                revision=1,
            )
            table.begin(number * PODS + pod, 1, holder)
    return LogInstant(index, 1, 1)


def test_a_search_limits_its_rows_and_includes_every_pool() -> None:
    answer = search(crowded_log(), "web", POOLS * PODS)
    hits = [hit["name"] for hit in answer["hits"]]
    assert len(hits) <= max(POD_ROWS_MAX, POOLS * POOL_SHARE_ROWS_MIN)
    assert {name.split("-")[1] for name in hits} == {str(number) for number in range(POOLS)}
