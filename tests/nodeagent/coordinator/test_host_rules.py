"""The coordinator's rule of an IP family is deleted if the table has no route of this family."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from nodeagent.coordinator.host_rules import remove_host_rules
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.session import NetlinkSession
from ops.lab.namespaces import NamedNamespace
from tests.support.parts import require_namespaces

pytestmark = pytest.mark.netns

TABLE = 500


@pytest.fixture
def node() -> Iterator[NamedNamespace]:
    """Both rules 1000 belong to the coordinator; rule 1001 belongs to another program."""
    require_namespaces()
    namespace = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    namespace.create()
    for family in ("-4", "-6"):
        namespace.ip(family, "rule", "add", "priority", "1000", "lookup", str(TABLE))
    namespace.ip("rule", "add", "priority", "1001", "lookup", str(TABLE))
    yield namespace
    namespace.delete()


def test_only_the_rules_of_the_coordinator_are_removed(node: NamedNamespace) -> None:
    assert remove_coordinator_rules(node) == {4, 6}

    assert "1000:" not in node.ip("rule") + node.ip("-6", "rule")
    assert "1001:" in node.ip("rule")


def test_the_ipv4_rule_stays_while_its_table_has_an_ipv4_route(node: NamedNamespace) -> None:
    node.ip("route", "add", "10.6.0.9/32", "dev", "lo", "table", str(TABLE))

    assert remove_coordinator_rules(node) == {6}
    assert "1000:" in node.ip("rule")


def remove_coordinator_rules(node: NamedNamespace) -> set[int]:
    """Return the families whose rule was removed."""
    namespace = NetworkNamespace.open(str(node.path))
    executor = NetnsExecutor()
    try:
        return executor.submit(namespace, remove_rules_in_this_namespace).result()
    finally:
        executor.close()
        namespace.close()


def remove_rules_in_this_namespace() -> set[int]:
    with NetlinkSession.open() as netlink:
        return {rule.family for rule in remove_host_rules(netlink, TABLE)}
