"""Network namespaces: held open by a descriptor, entered by threads that are there for it.

A socket stays in the namespace it was opened in, and ``/proc/sys/net`` is that of whoever opens it:
both need a thread that goes there. Python 3.11 has no ``os.setns``. Promise: no namespace is ever
made by looking for one; only the visitor's own thread and those that ``travels`` was called in
leave the agent's own namespace, and one that could not come back does nothing more elsewhere; what
waits for a visit is bounded. It never forks.
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
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

from core.errors import BadInput, DatapathError, NamespaceGone, NetlinkLost, Overloaded
from nodeagent.netlink.numbers import CLONE_NEWNET, NS_GET_NSTYPE
from nodeagent.netlink.session import NetlinkSession

T = TypeVar("T")

HOST_SYSCTLS: Final = Path("/host/proc/sys")
"""Where a container finds the machine's, if it was given them: its own are read-only."""

OWN_SYSCTLS: Final = Path("/proc/sys")
SYSCTL_BYTES_MAX: Final = 4_096

OWN: Final = "/proc/thread-self/ns/net"
VISITS_MAX: Final = 1_024
"""Visits that wait; the agent lets in fewer requests than that."""

VISIT_S_MAX: Final = 10.0
"""How long a caller waits for its visit; one takes some twenty microseconds."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


class NamespaceIdentity(NamedTuple):
    """What makes a namespace the same, whatever path leads to it."""

    device: int
    inode: int


class NetworkNamespace:
    """A network namespace that stays there while it is held, even if its path goes."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        status = os.fstat(fd)
        self.identity = NamespaceIdentity(status.st_dev, status.st_ino)

    @classmethod
    def open(cls, path: str) -> Self:
        """Hold the namespace at a path, which must be one already.

        Raises NamespaceGone when there is none, DatapathError when it cannot be opened.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise _gone(path) from None
        except OSError as error:
            # A process that has ended, or a directory on the way that is none.
            text = f"network namespace {path} cannot be opened: {error.strerror}"
            raise DatapathError(text, subject=path) from error
        try:
            if fcntl.ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET:
                raise _not_one(path)
            return cls(fd, path)
        except OSError as error:
            os.close(fd)
            if error.errno in (ENOTTY, EINVAL):
                # What `ip netns delete` leaves for a moment: the file without its mount.
                raise _gone(path) from None
            raise DatapathError(f"network namespace {path}: {error}", subject=path) from error
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def own(cls) -> Self:
        """The namespace of the calling thread."""
        return cls.open(OWN)

    def close(self) -> None:
        """Let go; twice is fine."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Visit(NamedTuple):
    fd: int
    work: Callable[[], object]
    done: Future[object]


class NetnsExecutor:
    """Enters namespaces. Safe to call from any thread.

    Make it in the namespace that is home: that is where its thread starts and returns to. Workers
    that do nothing but set up networks go by themselves (``travels``), which spares two switches of
    threads a visit; everybody else's visits are made by one thread of its own.
    """

    def __init__(self) -> None:
        self._home = NetworkNamespace.own()
        self._visits: queue.Queue[_Visit | None] = queue.Queue(VISITS_MAX)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._traveller = threading.local()

    def travels(self) -> None:
        """Let the calling thread make its visits itself; it must be at home."""
        self._traveller.home = True

    @property
    def home(self) -> NetworkNamespace:
        """The namespace of the agent, which is the node's own."""
        return self._home

    def submit(self, namespace: NetworkNamespace, work: Callable[[], T]) -> Future[T]:
        """Do ``work`` inside: short, and nothing that waits. Raises Overloaded.

        The future fails with NamespaceGone, or with whatever ``work`` raises. What has begun is
        done to its end; what is cancelled before is not done.
        """
        done: Future[T] = Future()
        # A descriptor of its own: the caller may close the namespace meanwhile.
        try:
            fd = os.dup(namespace.fd)
        except OSError as error:
            if error.errno == EBADF:
                raise _gone(namespace.path) from None
            raise DatapathError(f"{namespace.path}: {error.strerror}") from error
        with self._lock:
            try:
                if self._closed:
                    raise DatapathError("no namespace is entered any more: the agent is ending")
                self._visits.put_nowait(_Visit(fd, work, done))  # type: ignore[arg-type]
            except BaseException as error:
                os.close(fd)
                if isinstance(error, queue.Full):
                    raise _full() from None
                raise
            if self._thread is None:
                self._start()
        return done

    def visit(self, namespace: NetworkNamespace, work: Callable[[], T]) -> T:
        """As ``submit``, and wait for the result. Not for the event loop's thread.

        Raises NetlinkLost when it takes too long, and as ``submit``.
        """
        if hasattr(self._traveller, "home"):
            return self._travel(namespace, work)
        done = self.submit(namespace, work)
        try:
            return done.result(VISIT_S_MAX)
        except TimeoutError:
            done.cancel()  # nobody is there any more to close what it would open
            text = f"network namespace {namespace.path} was not entered within {VISIT_S_MAX:g} s"
            raise NetlinkLost(text, subject=namespace.path) from None

    def session(self, namespace: NetworkNamespace) -> NetlinkSession:
        """An rtnetlink session inside. Raises as ``visit``."""
        if self._is_here(namespace):
            return NetlinkSession.open()
        return self.visit(namespace, NetlinkSession.open)

    def socket(
        self, namespace: NetworkNamespace, family: int, kind: int, protocol: int
    ) -> socket.socket:
        """A socket inside, such as of AF_PACKET; it belongs to the caller. Raises as ``visit``."""
        return self.visit(namespace, lambda: socket.socket(family, kind, protocol))

    def close(self) -> None:
        """End the thread; what waits is done before."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._visits.put(None)
            thread.join(VISIT_S_MAX)
        self._home.close()

    def _is_here(self, namespace: NetworkNamespace) -> bool:
        at_home = getattr(self._traveller, "home", True)
        return at_home and namespace.identity == self._home.identity

    def _travel(self, namespace: NetworkNamespace, work: Callable[[], T]) -> T:
        """Go there, do the work, come back; a thread that is lost tries that first next time."""
        if self._is_here(namespace):
            return work()
        if namespace.fd < 0:
            raise _gone(namespace.path)
        self._traveller.home = False
        try:
            _enter(namespace.fd)
            return work()
        finally:
            _enter(self._home.fd)
            self._traveller.home = True

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._serve, name="namespaces", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # A thread starts where the one is that started it, and that may be lost somewhere.
        _enter(self._home.fd)
        while (visit := self._visits.get()) is not None:
            finish = _visited(visit)
            try:
                _enter(self._home.fd)
            except OSError:
                with self._lock:
                    self._start()
                return
            finally:
                finish()


def _visited(visit: _Visit) -> Callable[[], None]:
    """Go there and do the work; what is returned tells the caller, once the thread is home."""
    if not visit.done.set_running_or_notify_cancel():
        os.close(visit.fd)
        return lambda: None
    try:
        _enter(visit.fd)
        result = visit.work()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
        failure = error
        return lambda: visit.done.set_exception(failure)
    finally:
        os.close(visit.fd)
    return lambda: visit.done.set_result(result)


def read_sysctl(visitor: NetnsExecutor, namespace: NetworkNamespace, name: str) -> str | None:
    """The value of ``net/...`` inside; None: the kernel has no such key. Raises as ``visit``."""

    def read() -> str | None:
        with suppress(FileNotFoundError):
            return Path(_sysctl(name)).read_text().strip()
        return None

    return visitor.visit(namespace, read)


def write_sysctls(
    visitor: NetnsExecutor, namespace: NetworkNamespace, wanted: dict[str, str]
) -> list[str]:
    """Have ``net/...`` keys set inside, in order, in one visit; those the kernel does not have.

    Raises DatapathError when one cannot be written, and as ``visit``.
    """

    def write() -> list[str]:
        missing = []
        for name, value in wanted.items():
            try:
                _set(_sysctl(name), value)
            except FileNotFoundError:
                missing.append(name)
            except OSError as error:
                text = f"cannot set {name} to {value}: {error.strerror}"
                raise DatapathError(text, subject=namespace.path) from error
        return missing

    return visitor.visit(namespace, write)


def _sysctl(name: str) -> str:
    if not name.startswith("net/") or ".." in name:
        raise BadInput(f"{name} is no network sysctl", subject=name)
    root = HOST_SYSCTLS if HOST_SYSCTLS.is_dir() else OWN_SYSCTLS
    return f"{root}/{name}"


def _set(path: str, value: str) -> None:
    # Python's file objects would take several times as long as the kernel.
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # A write may spin for the lock of all links, even one that changes nothing.
        if os.pread(fd, SYSCTL_BYTES_MAX, 0).strip() != value.encode():
            os.write(fd, value.encode())
    finally:
        os.close(fd)


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _gone(path: str) -> NamespaceGone:
    return NamespaceGone(f"there is no network namespace {path}", subject=path)


def _not_one(path: str) -> DatapathError:
    return DatapathError(f"{path} is a namespace, but none of networks", subject=path)


def _full() -> Overloaded:
    return Overloaded(
        f"failed to queue correctly: queue is full with a maximum length of {VISITS_MAX}",
        subject="namespace visits",
        remedy="try again",
    )
