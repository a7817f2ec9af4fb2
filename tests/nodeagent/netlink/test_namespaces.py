"""The executor runs functions in network namespaces, and writes sysctls there."""

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


def current_netns() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_opening_a_missing_path_creates_no_namespace(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    with pytest.raises(NamespaceGone, match="there is no network namespace"):
        NetworkNamespace.open(str(path))
    assert not path.exists()


def test_a_file_that_is_not_a_namespace_counts_as_gone(tmp_path: Path) -> None:
    path = tmp_path / "left-over"
    path.touch()
    with pytest.raises(NamespaceGone):
        NetworkNamespace.open(str(path))


def test_a_namespace_of_another_kind_is_refused() -> None:
    with pytest.raises(DatapathError, match="not a network namespace"):
        NetworkNamespace.open("/proc/self/ns/uts")


def test_open_raises_datapath_error_if_the_path_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DatapathError, match="cannot be opened"):
        NetworkNamespace.open(str(path / "below"))


def test_the_executors_thread_enters_a_namespace_and_returns(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    inside = executor.run(namespace, current_netns)
    assert inside != current_netns()
    assert inside == f"net:[{namespace.identity.inode}]"
    assert executor.run(executor.own_namespace, current_netns) == current_netns()


def test_the_thread_returns_from_a_namespace_after_an_exception(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        executor.run(namespace, fail)
    assert executor.run(executor.own_namespace, current_netns) == current_netns()


def test_a_cancelled_function_is_not_run_and_later_functions_are_run(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    is_running, may_end = threading.Event(), threading.Event()
    runs: list[str] = []

    def hold() -> None:
        is_running.set()
        assert may_end.wait(60)

    running_call = executor.submit(namespace, hold)
    assert is_running.wait(60)
    cancelled = executor.submit(namespace, lambda: runs.append("cancelled"))
    assert cancelled.cancel()
    assert not running_call.cancel(), "a running call cannot be cancelled"
    may_end.set()

    assert executor.run(namespace, current_netns) != current_netns()
    assert runs == []


def test_a_thread_that_cannot_return_is_replaced(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_thread = executor.run(namespace, threading.get_ident)
    enter = namespaces._enter
    may_enter = iter([True, False])

    def fail_second_time(fd: int) -> None:
        if next(may_enter, True):
            enter(fd)
        else:
            raise OSError(1, "not allowed")

    monkeypatch.setattr(namespaces, "_enter", fail_second_time)
    assert executor.run(namespace, threading.get_ident) == first_thread
    assert executor.run(executor.own_namespace, current_netns) == current_netns()
    assert executor.run(executor.own_namespace, threading.get_ident) != first_thread


def test_the_executor_starts_no_thread_if_its_caller_may_enter_namespaces(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    with ThreadPoolExecutor(1, initializer=executor.let_thread_enter_namespaces) as workers:
        inside = workers.submit(executor.run, namespace, current_netns).result()
        own_netns = workers.submit(current_netns).result()
        assert (
            workers.submit(executor.run, executor.own_namespace, current_netns).result()
            == own_netns
        )
        with pytest.raises(ZeroDivisionError):
            workers.submit(executor.run, namespace, lambda: 1 // 0).result()
        assert workers.submit(current_netns).result() == own_netns
    assert inside == f"net:[{namespace.identity.inode}]"
    assert executor._thread is None


def test_a_thread_stuck_in_a_namespace_returns_before_its_next_function(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = namespaces._enter
    may_enter = iter([True, False])

    def fail_second_time(fd: int) -> None:
        if next(may_enter, True):
            enter(fd)
        else:
            raise OSError(1, "not allowed")

    def links_of_own_namespace() -> list[str]:
        with executor.session(executor.own_namespace) as session:
            return [link.name for link in session.links()]

    expected = links_of_own_namespace()
    monkeypatch.setattr(namespaces, "_enter", fail_second_time)
    with ThreadPoolExecutor(1, initializer=executor.let_thread_enter_namespaces) as workers:
        with pytest.raises(OSError, match="not allowed"):
            workers.submit(executor.run, namespace, current_netns).result()
        assert workers.submit(links_of_own_namespace).result() == expected


def test_an_open_namespace_outlives_its_name(
    executor: NetnsExecutor, namespace: NetworkNamespace, named_namespace: NamedNamespace
) -> None:
    named_namespace.delete()
    with executor.session(namespace) as session:
        assert [link.name for link in session.links()] == ["lo"]
    with pytest.raises(NamespaceGone):
        NetworkNamespace.open(str(named_namespace.path))


def test_running_in_a_closed_namespace_raises_namespace_gone(
    executor: NetnsExecutor, named_namespace: NamedNamespace
) -> None:
    namespace = NetworkNamespace.open(str(named_namespace.path))
    namespace.close()
    namespace.close()
    with pytest.raises(NamespaceGone):
        executor.run(namespace, current_netns)


def test_a_closed_executor_refuses_to_run(namespace: NetworkNamespace) -> None:
    executor = NetnsExecutor()
    executor.run(namespace, current_netns)
    executor.close()
    executor.close()
    with pytest.raises(DatapathError, match="stopping"):
        executor.run(namespace, current_netns)


def test_a_closed_executor_leaves_no_descriptor_and_no_thread(namespace: NetworkNamespace) -> None:
    # Descriptors of earlier tests may be closed at any time, so only new ones count.
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    executor = NetnsExecutor()

    def list_links(_: int) -> None:
        with executor.session(namespace) as session:
            session.links()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(list_links, range(200)))
    executor.close()
    assert open_descriptors() - descriptors == set()
    assert set(threading.enumerate()) - threads == set()


def test_a_session_in_the_agents_namespace_needs_no_thread(executor: NetnsExecutor) -> None:
    with executor.session(executor.own_namespace) as session, NetlinkSession.open() as own_netns:
        assert session.links() == own_netns.links()
    assert executor._thread is None


def test_write_sysctls_changes_only_the_given_namespace(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    before = Path("/proc/sys", FORWARD).read_text()
    for value in ("1", "0"):
        assert write_sysctls(executor, namespace, {FORWARD: value}) == []
        assert read_sysctl(executor, namespace, FORWARD) == value
    assert Path("/proc/sys", FORWARD).read_text() == before


def test_a_sysctl_with_the_desired_value_is_not_written(
    executor: NetnsExecutor, namespace: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write
    # A new namespace inherits the value of the machine.
    write_sysctls(executor, namespace, {FORWARD: "0"})

    def record_write(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", record_write)
    for value in ("1", "1", "0"):
        write_sysctls(executor, namespace, {FORWARD: value})
    assert written == [b"1", b"0"]


def test_write_sysctls_returns_the_sysctls_that_the_kernel_lacks(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    missing = "net/ipv4/conf/nowhere/rp_filter"
    assert write_sysctls(executor, namespace, {missing: "0", FORWARD: "1"}) == [missing]
    assert read_sysctl(executor, namespace, missing) is None
    assert read_sysctl(executor, namespace, FORWARD) == "1"


def test_an_interface_sysctl_is_set_on_all_present_and_future_interfaces(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    write_interface_sysctls(executor, namespace, "ipv4", "rp_filter", "2")

    for name in ("all", "default", "lo"):
        assert read_sysctl(executor, namespace, f"net/ipv4/conf/{name}/rp_filter") == "2"


def test_an_invalid_sysctl_value_or_name_is_refused(
    executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    with pytest.raises(DatapathError, match="cannot set net/ipv4/ip_forward to nonsense"):
        write_sysctls(executor, namespace, {FORWARD: "nonsense"})
    with pytest.raises(BadInput):
        read_sysctl(executor, namespace, "kernel/hostname")


def test_a_function_whose_caller_timed_out_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A late function would write after its caller has reported an error."""
    monkeypatch.setattr(namespaces, "CALL_S_MAX", 0.01)
    executor, may_end = NetnsExecutor(), threading.Event()
    runs: list[int] = []
    try:
        running_call = executor.submit(executor.own_namespace, may_end.wait)
        with pytest.raises(NetlinkLost, match="did not end within"):
            executor.run(executor.own_namespace, lambda: runs.append(1))
        later_call = executor.submit(executor.own_namespace, lambda: runs.append(2))
        may_end.set()
        running_call.result(20)
        later_call.result(20)
    finally:
        may_end.set()
        executor.close()
    assert runs == [2]
