"""Removes the node's rules ``from all lookup TABLE``, which all Pods share."""

from __future__ import annotations

from nodeagent.coordinator.attachment_plan import RULE_PRIORITY
from nodeagent.netlink import requests
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import RoutingRule


def remove_host_rules(netlink: NetlinkSession, table: int) -> list[RoutingRule]:
    """If the table has no route of a family, remove that family's rule. Return the removed rules.

    A route in the table belongs to a Pod that still runs. Raises NetlinkRefused or NetlinkLost.
    """
    used_families = {route.family for route in netlink.routes(table=table)}
    unused_rules = [
        rule
        for rule in netlink.rules()
        if rule == RoutingRule(rule.family, table, RULE_PRIORITY)
        and rule.family not in used_families
    ]
    netlink.apply([requests.removal(requests.add_rule(rule)) for rule in unused_rules])
    return unused_rules
