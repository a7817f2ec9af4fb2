"""Network namespaces of a test, and netlink sessions in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.session import NetlinkSession
from ops.lab.namespaces import NamedNamespace


@pytest.fixture
def named(namespaces: None) -> Iterator[NamedNamespace]:
    """A named namespace with only ``lo``."""
    namespace = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    namespace.create()
    yield namespace
    namespace.delete()


@pytest.fixture
def other(namespaces: None) -> Iterator[NamedNamespace]:
    namespace = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    namespace.create()
    yield namespace
    namespace.delete()


@pytest.fixture
def namespace(named: NamedNamespace) -> Iterator[NetworkNamespace]:
    with NetworkNamespace.open(str(named.path)) as opened:
        yield opened


@pytest.fixture
def session(executor: NetnsExecutor, namespace: NetworkNamespace) -> Iterator[NetlinkSession]:
    with executor.session(namespace) as opened:
        yield opened
