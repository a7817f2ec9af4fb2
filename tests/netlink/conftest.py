"""Network namespaces of a test, and the thread that enters them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from nodeagent.netlink.namespaces import Namespace, Visitor
from nodeagent.netlink.session import Session
from ops.lab.namespaces import Namespace as NamedNamespace
from tests.support.parts import require_namespaces


@pytest.fixture(scope="session")
def possible() -> None:
    require_namespaces()


@pytest.fixture
def named(possible: None) -> Iterator[NamedNamespace]:
    """A namespace with a name, and nothing in it but ``lo``."""
    made = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    made.create()
    yield made
    made.delete()


@pytest.fixture
def other(possible: None) -> Iterator[NamedNamespace]:
    """A second one."""
    made = NamedNamespace(f"owt-{os.getpid()}-{secrets.token_hex(3)}")
    made.create()
    yield made
    made.delete()


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    made = Visitor()
    yield made
    made.close()


@pytest.fixture
def namespace(named: NamedNamespace) -> Iterator[Namespace]:
    with Namespace.open(str(named.path)) as held:
        yield held


@pytest.fixture
def session(visitor: Visitor, namespace: Namespace) -> Iterator[Session]:
    with visitor.session(namespace) as opened:
        yield opened
