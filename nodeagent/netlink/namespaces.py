"""Opens network namespaces, and runs functions inside them.

To open a socket of a namespace, a thread must first enter the namespace (``setns``, which Python
3.11 does not have). Only the executor's thread, and threads that called
``let_thread_enter_namespaces``, enter other namespaces.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from errno import EBADF, EINVAL, ENOTTY
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

from core.errors import BadInput, DatapathError, NamespaceGone, NetlinkLost, Overloaded
from nodeagent.netlink.numbers import CLONE_NEWNET, NS_GET_NSTYPE
from nodeagent.netlink.session import NetlinkSession

T = TypeVar("T")

HOST_SYSCTLS: Final = Path("/host/proc/sys")
"""A container's own /proc/sys is read-only."""

OWN_SYSCTLS: Final = Path("/proc/sys")
SYSCTL_BYTES_MAX: Final = 4_096

OWN_NAMESPACE_PATH: Final = "/proc/thread-self/ns/net"

CALLS_MAX: Final = 1_024
"""Limit of queued calls; it is above ``request_runner.REQUESTS_MAX``."""

CALL_S_MAX: Final = 10.0

_PATH_REMEDY: Final = (
    "check the path, and that its directory is mounted from the node into the agent's container"
)

_libc: Final = ctypes.CDLL(None, use_errno=True)


class NamespaceIdentity(NamedTuple):
    """The identity of a namespace: the same for every path to it."""

    device: int
    inode: int


class NetworkNamespace:
    """An open network namespace. It exists until ``close``, even if its path is removed."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        status = os.fstat(fd)
        self.identity = NamespaceIdentity(status.st_dev, status.st_ino)

    @classmethod
    def open(cls, path: str) -> Self:
        """Open a namespace. Raises DatapathError, or NamespaceGone if the path has none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise _namespace_gone(path) from None
        except OSError as error:
            text = f"network namespace {path} cannot be opened: {error.strerror}"
            raise DatapathError(text, subject=path, remedy=_PATH_REMEDY) from error
        try:
            if fcntl.ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET:
                raise _not_network(path)
            return cls(fd, path)
        except OSError as error:
            os.close(fd)
            if error.errno in (ENOTTY, EINVAL):
                # `ip netns delete` unmounts the namespace before it removes the file.
                raise _namespace_gone(path) from None
            text = f"network namespace {path} cannot be opened: {error.strerror}"
            raise DatapathError(text, subject=path, remedy=_PATH_REMEDY) from error
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def own(cls) -> Self:
        """The namespace of the calling thread."""
        return cls.open(OWN_NAMESPACE_PATH)

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _NamespaceCall(NamedTuple):
    fd: int
    work: Callable[[], object]
    future: Future[object]


class NetnsExecutor:
    """Runs functions inside network namespaces, in one dedicated thread. Thread-safe.

    Create the executor in the agent's network namespace.
    """

    def __init__(self) -> None:
        self._own_namespace = NetworkNamespace.own()
        self._calls: queue.Queue[_NamespaceCall | None] = queue.Queue(CALLS_MAX)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread_state = threading.local()

    def let_thread_enter_namespaces(self) -> None:
        """Let this thread enter namespaces itself when it calls ``run``.

        This saves two thread switches for each call. The thread must be in ``own_namespace``.
        """
        self._thread_state.in_own_namespace = True

    @property
    def own_namespace(self) -> NetworkNamespace:
        """The namespace of the agent and of the node."""
        return self._own_namespace

    def submit(self, namespace: NetworkNamespace, work: Callable[[], T]) -> Future[T]:
        """Queue ``work``, which must be short and must not wait.

        The future fails with the error of ``work``. Raises NamespaceGone, DatapathError, or
        Overloaded if the queue is full.
        """
        future: Future[T] = Future()
        # The caller may close the namespace before the call starts.
        try:
            fd = os.dup(namespace.fd)
        except OSError as error:
            if error.errno == EBADF:
                raise _namespace_gone(namespace.path) from None
            text = f"network namespace {namespace.path} cannot be entered: {error.strerror}"
            remedy = "try again; if it fails again, raise the limit of open files of the agent"
            raise DatapathError(text, subject=namespace.path, remedy=remedy) from error
        with self._lock:
            try:
                if self._closed:
                    raise DatapathError(
                        "cannot enter a network namespace: the agent is stopping",
                        remedy="try again after its restart",
                    )
                self._calls.put_nowait(_NamespaceCall(fd, work, future))  # type: ignore[arg-type]
            except BaseException as error:
                os.close(fd)
                if isinstance(error, queue.Full):
                    raise _queue_full() from None
                raise
            if self._thread is None:
                self._start()
        return future

    def run(self, namespace: NetworkNamespace, work: Callable[[], T]) -> T:
        """Run ``work`` and return its result. Blocks, so the event loop must not call it.

        Raises NetlinkLost after ``CALL_S_MAX``, and the errors of ``submit``.
        """
        if hasattr(self._thread_state, "in_own_namespace"):
            return self._run_in_calling_thread(namespace, work)
        future = self.submit(namespace, work)
        try:
            return future.result(CALL_S_MAX)
        except TimeoutError:
            future.cancel()  # otherwise a late result may be a socket that is never closed
            text = f"a call in network namespace {namespace.path} did not end"
            raise NetlinkLost(
                f"{text} within {CALL_S_MAX:g} s",
                subject=namespace.path,
                remedy="try again; if it fails again, the kernel of this node is overloaded",
            ) from None

    def session(self, namespace: NetworkNamespace) -> NetlinkSession:
        """An rtnetlink session. Raises the errors of ``run``."""
        if self._thread_is_in(namespace):
            return NetlinkSession.open()
        return self.run(namespace, NetlinkSession.open)

    def socket(
        self, namespace: NetworkNamespace, family: int, kind: int, protocol: int
    ) -> socket.socket:
        """A socket, which the caller closes. Raises the errors of ``run``."""
        return self.run(namespace, lambda: socket.socket(family, kind, protocol))

    def close(self) -> None:
        """Run the queued calls, then stop the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            thread.join(CALL_S_MAX)
        self._own_namespace.close()

    def _thread_is_in(self, namespace: NetworkNamespace) -> bool:
        in_own_namespace = getattr(self._thread_state, "in_own_namespace", True)
        return in_own_namespace and namespace.identity == self._own_namespace.identity

    def _run_in_calling_thread(self, namespace: NetworkNamespace, work: Callable[[], T]) -> T:
        if self._thread_is_in(namespace):
            return work()
        if namespace.fd < 0:
            raise _namespace_gone(namespace.path)
        # Stays False if the thread cannot go back to its namespace: the next call enters one again.
        self._thread_state.in_own_namespace = False
        try:
            _enter(namespace.fd)
            return work()
        finally:
            _enter(self._own_namespace.fd)
            self._thread_state.in_own_namespace = True

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="namespaces", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # A new thread is in the namespace of its creator.
        _enter(self._own_namespace.fd)
        while (call := self._calls.get()) is not None:
            complete_future = _run_call(call)
            try:
                _enter(self._own_namespace.fd)
            except OSError:
                with self._lock:
                    self._start()
                return
            finally:
                complete_future()


def _run_call(call: _NamespaceCall) -> Callable[[], None]:
    """Run one call; return a function that completes the call's future."""
    if not call.future.set_running_or_notify_cancel():
        os.close(call.fd)
        return lambda: None
    try:
        _enter(call.fd)
        result = call.work()
    except BaseException as error:  # noqa: BLE001 - the future raises it in the caller
        failure = error
        return lambda: call.future.set_exception(failure)
    finally:
        os.close(call.fd)
    return lambda: call.future.set_result(result)


def read_sysctl(executor: NetnsExecutor, namespace: NetworkNamespace, name: str) -> str | None:
    """The value of a sysctl; None if the kernel does not have it.

    Raises the errors of ``NetnsExecutor.run``.
    """

    def read() -> str | None:
        with suppress(FileNotFoundError):
            return Path(_sysctl(name)).read_text().strip()
        return None

    return executor.run(namespace, read)


def write_sysctls(
    executor: NetnsExecutor, namespace: NetworkNamespace, values: dict[str, str]
) -> list[str]:
    """Set sysctls; return the names that the kernel does not have.

    Raises DatapathError, and the errors of ``NetnsExecutor.run``.
    """

    def write() -> list[str]:
        missing = []
        for name, value in values.items():
            try:
                _set(_sysctl(name), value)
            except FileNotFoundError:
                missing.append(name)
            except OSError as error:
                text = f"cannot set {name} to {value}: {error.strerror}"
                raise DatapathError(
                    text,
                    subject=namespace.path,
                    remedy=f"check the value, and that the agent may write {_sysctl(name)}",
                ) from error
        return missing

    return executor.run(namespace, write)


def write_interface_sysctls(
    executor: NetnsExecutor, namespace: NetworkNamespace, family: str, key: str, value: str
) -> None:
    """Set ``net/FAMILY/conf/*/KEY``. Raises the errors of ``write_sysctls``."""
    directory = f"net/{family}/conf"
    entries = executor.run(namespace, lambda: list(Path(_sysctl(directory)).iterdir()))
    values = {f"{directory}/{entry.name}/{key}": value for entry in entries}
    write_sysctls(executor, namespace, values)  # skips interfaces that were deleted meanwhile


def _sysctl(name: str) -> str:
    if not name.startswith("net/") or ".." in name:
        raise BadInput(f"{name} is not a network sysctl", subject=name)
    root = HOST_SYSCTLS if HOST_SYSCTLS.is_dir() else OWN_SYSCTLS
    return f"{root}/{name}"


def _set(path: str, value: str) -> None:
    # A Python file object takes several times as long.
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # The kernel takes the RTNL lock even to write an unchanged value.
        if os.pread(fd, SYSCTL_BYTES_MAX, 0).strip() != value.encode():
            os.write(fd, value.encode())
    finally:
        os.close(fd)


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _namespace_gone(path: str) -> NamespaceGone:
    return NamespaceGone(
        f"there is no network namespace {path}",
        subject=path,
        remedy="check the path; if the Pod still exists, delete the Pod: its controller creates"
        " a new Pod",
    )


def _not_network(path: str) -> DatapathError:
    remedy = "set CNI_NETNS to the path of a network namespace"
    return DatapathError(f"{path} is not a network namespace", subject=path, remedy=remedy)


def _queue_full() -> Overloaded:
    # Users' scripts search for Spiderpool's text "failed to queue correctly".
    return Overloaded(
        f"failed to queue correctly: queue is full with a maximum length of {CALLS_MAX}",
        subject="network namespace calls",
        remedy="try again; if the queue stays full, the kernel of this node is overloaded",
    )
