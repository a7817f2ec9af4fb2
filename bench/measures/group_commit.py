"""The rate of claims with group commit, relative to the rate with a transaction for each claim."""

from __future__ import annotations

from typing import Any

from bench.figures import Figure, ratio_figure
from bench.rig.lab import Lab

CALLERS = 32


def measure(lab: Lab) -> list[Figure]:
    """Measure store_batch_ratio."""
    grouped: list[float] = []
    alone: list[float] = []
    per_transaction: list[float] = []
    count = lab.scale.adds
    with lab.etcd() as etcd:
        parameters: dict[str, Any] = {
            "endpoint": etcd.endpoints[0],
            "callers": CALLERS,
            "count": count,
        }
        for number in lab.rounds():
            # Each call claims for new Pods, because the keys of a claim must not exist.
            first = 2 * number * count
            report = lab.call("store", parameters | {"way": "writer", "first": first})
            grouped.append(count / report["seconds"])
            per_transaction.append(count / report["transactions"])
            first += count
            report = lab.call("store", parameters | {"way": "transactions", "first": first})
            alone.append(count / report["seconds"])
    ratios = [
        grouped_rate / alone_rate for grouped_rate, alone_rate in zip(grouped, alone, strict=True)
    ]
    note = (
        f"{CALLERS} callers: group commit {max(grouped):,.0f}/s at best,"
        f" {sum(per_transaction) / len(per_transaction):.0f} claims a transaction;"
        f" unbatched {max(alone):,.0f}/s at best"
    )
    return [ratio_figure("store_batch_ratio", ratios, "the rate of unbatched transactions", note)]
