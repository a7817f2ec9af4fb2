"""Namespaces are entered by one thread that returns; opening a path never creates one."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import BadInput, DatapathError, NamespaceGone, NetlinkLost
from nodeagent.netlink import namespaces
from nodeagent.netlink.namespaces import (
    NetnsExecutor,
    NetworkNamespace,
    read_sysctl,
    write_interface_sysctls,
    write_sysctls,
)
from nodeagent.netlink.session import NetlinkSession
from ops.lab.namespaces import NamedNamespace
from tests.support.descriptors import open_descriptors

pytestmark = pytest.mark.netns

FORWARD = "net/ipv4/ip_forward"


def here() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_looking_for_a_namespace_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    with pytest.raises(NamespaceGone, match="there is no network namespace"):
        NetworkNamespace.open(str(path))
    assert not path.exists()


def test_a_file_that_is_no_namespace_is_none(tmp_path: Path) -> None:
    path = tmp_path / "left-over"
    path.touch()
    with pytest.raises(NamespaceGone):
        NetworkNamespace.open(str(path))


def test_a_namespace_of_another_kind_is_refused() -> None:
    with pytest.raises(DatapathError, match="not a network namespace"):
        NetworkNamespace.open("/proc/self/ns/uts")


def test_a_path_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DatapathError, match="cannot be opened"):
        NetworkNamespace.open(str(path / "below"))


def test_the_thread_goes_there_and_comes_back(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    inside = executor.run(namespace, here)
    assert inside != here()
    assert inside == f"net:[{namespace.identity.inode}]"
    assert executor.run(executor.own_namespace, here) == here()


def test_what_fails_inside_fails_for_its_caller_alone(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        executor.run(namespace, fail)
    assert executor.run(executor.own_namespace, here) == here()


def test_a_visit_that_is_called_off_is_not_made_and_harms_no_other(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    at_work, go_on = threading.Event(), threading.Event()
    made: list[str] = []

    def hold() -> None:
        at_work.set()
        assert go_on.wait(60)

    holding = executor.submit(namespace, hold)
    assert at_work.wait(60)
    called_off = executor.submit(namespace, lambda: made.append("called off"))
    assert called_off.cancel()
    assert not holding.cancel(), "what has begun is done to its end"
    go_on.set()

    assert executor.run(namespace, here) != here()
    assert made == []


def test_a_thread_that_cannot_come_back_is_replaced(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = executor.run(namespace, threading.get_ident)
    enter = namespaces._enter
    calls = iter([True, False])

    def stuck(fd: int) -> None:
        if next(calls, True):
            enter(fd)
        else:
            raise OSError(1, "not allowed")

    monkeypatch.setattr(namespaces, "_enter", stuck)
    assert executor.run(namespace, threading.get_ident) == lost
    assert executor.run(executor.own_namespace, here) == here()
    assert executor.run(executor.own_namespace, threading.get_ident) != lost


def test_a_thread_that_travels_goes_itself_and_comes_back(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    with ThreadPoolExecutor(1, initializer=executor.run_directly) as workers:
        there = workers.submit(executor.run, namespace, here).result()
        own = workers.submit(here).result()
        assert workers.submit(executor.run, executor.own_namespace, here).result() == own
        with pytest.raises(ZeroDivisionError):
            workers.submit(executor.run, namespace, lambda: 1 // 0).result()
        assert workers.submit(here).result() == own
    assert there == f"net:[{namespace.identity.inode}]"
    assert executor._thread is None


def test_a_traveller_that_is_lost_opens_nothing_before_it_is_home(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = namespaces._enter
    calls = iter([True, False])

    def stuck(fd: int) -> None:
        if next(calls, True):
            enter(fd)
        else:
            raise OSError(1, "not allowed")

    def home_links() -> list[str]:
        with executor.session(executor.own_namespace) as session:
            return [link.name for link in session.links()]

    expected = home_links()
    monkeypatch.setattr(namespaces, "_enter", stuck)
    with ThreadPoolExecutor(1, initializer=executor.run_directly) as workers:
        with pytest.raises(OSError, match="not allowed"):
            workers.submit(executor.run, namespace, here).result()
        assert workers.submit(home_links).result() == expected


def test_a_namespace_that_is_held_outlives_its_name(
    executor: NetnsExecutor, namespace: NetworkNamespace, named: NamedNamespace
) -> None:
    named.delete()
    with executor.session(namespace) as session:
        assert [link.name for link in session.links()] == ["lo"]
    with pytest.raises(NamespaceGone):
        NetworkNamespace.open(str(named.path))


def test_a_closed_namespace_is_gone(executor: NetnsExecutor, named: NamedNamespace) -> None:
    held = NetworkNamespace.open(str(named.path))
    held.close()
    held.close()
    with pytest.raises(NamespaceGone):
        executor.run(held, here)


def test_nobody_is_let_in_after_the_end(namespace: NetworkNamespace) -> None:
    executor = NetnsExecutor()
    executor.run(namespace, here)
    executor.close()
    executor.close()
    with pytest.raises(DatapathError, match="stopping"):
        executor.run(namespace, here)


def test_visits_leave_no_descriptor_and_no_thread(namespace: NetworkNamespace) -> None:
    # Descriptors of earlier tests may be closed at any time, so only new ones count.
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    executor = NetnsExecutor()

    def once(_: int) -> None:
        with executor.session(namespace) as session:
            session.links()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(200)))
    executor.close()
    assert open_descriptors() - descriptors == set()
    assert set(threading.enumerate()) - threads == set()


def test_the_own_namespace_needs_no_visit(executor: NetnsExecutor) -> None:
    with executor.session(executor.own_namespace) as session, NetlinkSession.open() as own:
        assert session.links() == own.links()
    assert executor._thread is None


def test_sysctls_are_those_of_the_namespace(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    before = Path("/proc/sys", FORWARD).read_text()
    for value in ("1", "0"):
        assert write_sysctls(executor, namespace, {FORWARD: value}) == []
        assert read_sysctl(executor, namespace, FORWARD) == value
    assert Path("/proc/sys", FORWARD).read_text() == before


def test_a_sysctl_that_is_as_wanted_is_not_written(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write
    # A new namespace inherits the value of the machine.
    write_sysctls(executor, namespace, {FORWARD: "0"})

    def noted(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", noted)
    for value in ("1", "1", "0"):
        write_sysctls(executor, namespace, {FORWARD: value})
    assert written == [b"1", b"0"]


def test_a_sysctl_the_kernel_does_not_have_is_named(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    missing = "net/ipv4/conf/nowhere/rp_filter"
    assert write_sysctls(executor, namespace, {missing: "0", FORWARD: "1"}) == [missing]
    assert read_sysctl(executor, namespace, missing) is None
    assert read_sysctl(executor, namespace, FORWARD) == "1"


def test_a_sysctl_of_interfaces_is_set_on_each_and_on_those_to_come(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    write_interface_sysctls(executor, namespace, "ipv4", "rp_filter", "2")

    for name in ("all", "default", "lo"):
        assert read_sysctl(executor, namespace, f"net/ipv4/conf/{name}/rp_filter") == "2"


def test_a_sysctl_that_cannot_be_set_is_an_error(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    with pytest.raises(DatapathError, match="cannot set net/ipv4/ip_forward to nonsense"):
        write_sysctls(executor, namespace, {FORWARD: "nonsense"})
    with pytest.raises(BadInput):
        read_sysctl(executor, namespace, "kernel/hostname")


def test_a_visit_that_nobody_waits_for_any_more_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its descriptors would leak, and its writes would be late."""
    monkeypatch.setattr(namespaces, "CALL_S_MAX", 0.01)
    executor, go_on = NetnsExecutor(), threading.Event()
    made: list[int] = []
    try:
        before = executor.submit(executor.own_namespace, go_on.wait)
        with pytest.raises(NetlinkLost, match="was not entered within"):
            executor.run(executor.own_namespace, lambda: made.append(1))
        after = executor.submit(executor.own_namespace, lambda: made.append(2))
        go_on.set()
        before.result(20)
        after.result(20)
    finally:
        go_on.set()
        executor.close()
    assert made == [2]
