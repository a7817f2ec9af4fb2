"""The order in which accepted pools are tried: more specific pools first.

See docs/reference/pool-selection.md, "Order of pools". Six fields are compared one after the other,
and the first difference decides; pools without a difference keep the user's order. A field counts
if it is set, also if a filter ignored it (nodeAffinity beside nodeName) or it matches everything.
"""

from __future__ import annotations

from core.domain.model import Pool


def specificity(pool: Pool) -> int:
    """Six bits, the most important trait first, so that numbers compare as the traits do."""
    return (
        (pool.pod_affinity is not None) << 5
        | bool(pool.node_names) << 4
        | (pool.node_affinity is not None) << 3
        | bool(pool.namespace_names) << 2
        | (pool.namespace_affinity is not None) << 1
        | bool(pool.multus_names)
    )


def in_order_of_trial(pools: list[Pool]) -> tuple[str, ...]:
    """The names, most specific first, otherwise as given."""
    if len(pools) > 1:
        pools = sorted(pools, key=specificity, reverse=True)  # reverse keeps the order of equals
    return tuple(pool.name for pool in pools)
