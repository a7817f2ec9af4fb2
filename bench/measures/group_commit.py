"""The rate of claims with group commit, relative to the rate with a transaction for each claim."""

from __future__ import annotations

from typing import Any

from bench.figures import Figure, ratio_figure
from bench.rig.lab import Lab

CALLERS = 32


def measure(lab: Lab) -> list[Figure]:
    """Measure store_batch_ratio."""
    grouped_rates: list[float] = []
    unbatched_rates: list[float] = []
    claims_per_transaction: list[float] = []
    count = lab.scale.adds
    with lab.etcd() as etcd:
        parameters: dict[str, Any] = {
            "endpoint": etcd.endpoints[0],
            "callers": CALLERS,
            "count": count,
        }
        for number in lab.rounds():
            # New Pods in each call: the keys of a claim must not exist.
            first = 2 * number * count
            report = lab.call("store", parameters | {"way": "writer", "first": first})
            grouped_rates.append(count / report["seconds"])
            claims_per_transaction.append(count / report["transactions"])
            first += count
            report = lab.call("store", parameters | {"way": "transactions", "first": first})
            unbatched_rates.append(count / report["seconds"])
    ratios = [
        rate / unbatched_rate
        for rate, unbatched_rate in zip(grouped_rates, unbatched_rates, strict=True)
    ]
    note = (
        f"{CALLERS} callers: group commit {max(grouped_rates):,.0f}/s at best,"
        f" {sum(claims_per_transaction) / len(claims_per_transaction):.0f} claims a transaction;"
        f" unbatched {max(unbatched_rates):,.0f}/s at best"
    )
    return [ratio_figure("store_batch_ratio", ratios, "the rate of unbatched transactions", note)]
