"""The rate of claims with group commit, relative to a transaction for each claim."""

from __future__ import annotations

from typing import Any

from bench.figures import Figure, ratio_figure
from bench.rig.lab import Lab

CALLERS = 32


def measure(lab: Lab) -> list[Figure]:
    """store_batch_ratio."""
    grouped: list[float] = []
    alone: list[float] = []
    per_transaction: list[float] = []
    count = lab.scale.adds
    with lab.etcd() as etcd:
        order: dict[str, Any] = {"endpoint": etcd.endpoints[0], "callers": CALLERS, "count": count}
        for number in lab.rounds():
            # Keys are made from numbers, and no key may exist before.
            firsts = (2 * number * count, (2 * number + 1) * count)
            report = lab.call("store", order | {"way": "writer", "first": firsts[0]})
            grouped.append(count / report["seconds"])
            per_transaction.append(count / report["transactions"])
            report = lab.call("store", order | {"way": "transactions", "first": firsts[1]})
            alone.append(count / report["seconds"])
    ratios = [a / b for a, b in zip(grouped, alone, strict=True)]
    note = (
        f"{CALLERS} callers: group commit {max(grouped):,.0f}/s at best,"
        f" {sum(per_transaction) / len(per_transaction):.0f} claims a transaction;"
        f" unbatched {max(alone):,.0f}/s at best"
    )
    return [ratio_figure("store_batch_ratio", ratios, "the rate of unbatched transactions", note)]
