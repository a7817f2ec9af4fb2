"""Fixtures: named network namespaces, and a netlink session in one of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.session import NetlinkSession
from ops.lab.namespaces import NamedNamespace


@pytest.fixture
def named_namespace(namespaces: None) -> Iterator[NamedNamespace]:
    """A named namespace with only ``lo``."""
    namespace = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    namespace.create()
    yield namespace
    namespace.delete()


@pytest.fixture
def peer_namespace(namespaces: None) -> Iterator[NamedNamespace]:
    namespace = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    namespace.create()
    yield namespace
    namespace.delete()


@pytest.fixture
def namespace(named_namespace: NamedNamespace) -> Iterator[NetworkNamespace]:
    with NetworkNamespace.open(str(named_namespace.path)) as opened:
        yield opened


@pytest.fixture
def session(executor: NetnsExecutor, namespace: NetworkNamespace) -> Iterator[NetlinkSession]:
    with executor.session(namespace) as opened:
        yield opened
