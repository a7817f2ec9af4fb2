"""The priorities that the kernel would choose for rules without one.

The kernel takes the priority of the second rule in its list less one (``fib_default_rule_pref``),
and does not see that such a rule is there already. Said in advance, a rule can be added twice
without harm. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.addresses.ip_address import Cidr, Family
from nodeagent.netlink.values import RoutingRule


class Priorities:
    """Simulates one namespace's lists of rules."""

    def __init__(self, rules: Iterable[RoutingRule]) -> None:
        self._rules = list(rules)
        self._taken: dict[Family, list[int]] = {4: [], 6: []}
        for rule in self._rules:
            self._taken[rule.family].append(rule.priority)
        for taken in self._taken.values():
            taken.sort()

    def taken(self, family: Family, priority: int) -> None:
        """A rule of that priority comes to be."""
        self._taken[family].append(priority)
        self._taken[family].sort()

    def next(self, source: Cidr, table: int) -> RoutingRule:
        """The rule ``from source lookup table``: the one that is there, or the next to be."""
        family = source.family
        for rule in self._rules:
            if rule.source == source and rule.table == table and not rule.mark:
                return rule
        taken = self._taken[family]
        # With fewer than two rules the kernel takes 0: behind nothing but the first.
        priority = max(taken[1] - 1, 0) if len(taken) > 1 else 0
        self.taken(family, priority)
        found = RoutingRule(family, table, priority, source)
        self._rules.append(found)
        return found
