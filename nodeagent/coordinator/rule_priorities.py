"""Computes the priority that the kernel would assign to a rule. Pure.

The kernel subtracts one from the priority of the second rule in its list
(``fib_default_rule_pref``). With an explicit priority, a repeated request adds no second rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import Cidr, Family
from nodeagent.netlink.values import RoutingRule


class Priorities:
    """The priorities of the rules in one network namespace."""

    def __init__(self, rules: Iterable[RoutingRule]) -> None:
        self._rules = list(rules)
        self._taken: dict[Family, list[int]] = {4: [], 6: []}
        for rule in self._rules:
            self._taken[rule.family].append(rule.priority)
        for taken in self._taken.values():
            taken.sort()

    def reserve(self, family: Family, priority: int) -> None:
        """Record that a rule with this priority is added."""
        self._taken[family].append(priority)
        self._taken[family].sort()

    def source_rule(self, source: Cidr, table: int) -> RoutingRule:
        """The rule ``from source lookup table``: the existing rule, or a new rule."""
        family = source.family
        for rule in self._rules:
            if rule.source == source and rule.table == table and not rule.mark:
                return rule
        taken = self._taken[family]
        # With fewer than two rules the kernel assigns 0.
        priority = max(taken[1] - 1, 0) if len(taken) > 1 else 0
        self.reserve(family, priority)
        rule = RoutingRule(family, table, priority, source)
        self._rules.append(rule)
        return rule
