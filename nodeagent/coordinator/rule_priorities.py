"""Computes the priority that the kernel would assign to a rule. Pure.

With an explicit priority, a repeated request adds no second rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import Cidr, Family
from nodeagent.netlink.values import RoutingRule


class Priorities:
    """The priorities of the rules in one network namespace."""

    def __init__(self, rules: Iterable[RoutingRule]) -> None:
        self._rules = list(rules)
        self._taken_priorities: dict[Family, list[int]] = {4: [], 6: []}
        for rule in self._rules:
            self._taken_priorities[rule.family].append(rule.priority)
        for taken_priorities in self._taken_priorities.values():
            taken_priorities.sort()

    def reserve(self, family: Family, priority: int) -> None:
        """Record that a rule with this priority is added."""
        self._taken_priorities[family].append(priority)
        self._taken_priorities[family].sort()

    def source_rule(self, source: Cidr, table: int) -> RoutingRule:
        """The existing or a new rule ``from source lookup table``."""
        family = source.family
        for rule in self._rules:
            if rule.source == source and rule.table == table and not rule.mark:
                return rule
        taken_priorities = self._taken_priorities[family]
        # ``fib_default_rule_pref`` of the kernel: one less than the second rule's, or 0.
        priority = max(taken_priorities[1] - 1, 0) if len(taken_priorities) > 1 else 0
        self.reserve(family, priority)
        rule = RoutingRule(family, table, priority, source)
        self._rules.append(rule)
        return rule
