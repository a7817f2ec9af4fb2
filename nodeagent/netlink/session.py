"""An rtnetlink socket that sends many requests in one system call.

The kernel handles requests inside ``sendmsg``: when ``sendmsg`` returns, all answers are in
the socket's queue, so receiving never waits. Interrupted listings, and requests whose answers were
lost (ENOBUFS), are repeated a limited number of times. Only one thread may use a session at a time.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from errno import EAGAIN, ENOBUFS, ENODEV, EPERM, errorcode
from struct import Struct
from typing import Final, NamedTuple, Self, TypeVar

from core.domain.addresses.ip_address import Address, Family
from core.errors import NetlinkLost, NetlinkRefused
from core.process.tracing import Span, child_span
from nodeagent.netlink import numbers as n
from nodeagent.netlink import replies, requests
from nodeagent.netlink.codec import I32, MESSAGE_HEADER, attributes, message, messages, text
from nodeagent.netlink.requests import Request
from nodeagent.netlink.values import KernelRoute, Link, LinkAddress, Neighbour, RoutingRule

T = TypeVar("T")

SEND_REQUESTS_MAX: Final = 128
"""Requests in one send. Their answers fit into the smallest receive buffer of any kernel."""

SEND_SPAN: Final = "netlink send"

SEND_TRIES_MAX: Final = 4

LISTING_TRIES_MAX: Final = 16

RECEIVE_BYTES: Final = 1 << 16
RECEIVE_BUFFER_BYTES: Final = 1 << 20
LISTING_MESSAGES_MAX: Final = 1_000_000

IFREQ_INDEX: Final = Struct("=16si20x")

_OPTIONS: Final = (n.NETLINK_CAP_ACK, n.NETLINK_EXT_ACK, n.NETLINK_GET_STRICT_CHK)


class RequestOutcome(NamedTuple):
    """The result of one request. ``errno`` 0: success. ``text``: the kernel's error text."""

    errno: int = 0
    text: str = ""
    answer: bytes = b""


_SUCCESS: Final = RequestOutcome()


class _Interrupted(Exception):
    """A change interrupted a listing, or answers were lost."""


class NetlinkSession:
    """An rtnetlink socket of one namespace. ``kernel_s``: seconds spent in send and receive.

    Methods that send requests raise NetlinkLost, NetlinkRefused.
    """

    def __init__(self, netlink: socket.socket) -> None:
        self._socket = netlink
        self._sequence = 0
        self._overrun = False  # the kernel dropped answers since the last send
        self._settled = True  # the last answer to the last send was received
        self.kernel_s = 0.0

    @classmethod
    def open(cls) -> Self:
        """A session in the calling thread's network namespace. Raises OSError."""
        netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, n.NETLINK_ROUTE
        )
        try:
            # Old kernels lack some options.
            for option in _OPTIONS:
                with suppress(OSError):
                    netlink.setsockopt(n.SOL_NETLINK, option, 1)
            netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            netlink.setblocking(False)
            netlink.bind((0, 0))
        except BaseException:
            netlink.close()
            raise
        return cls(netlink)

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------------------- operations

    def apply(self, batch: Sequence[Request]) -> list[RequestOutcome]:
        """Send requests, in order; tolerated errors count as success.

        The kernel also executes the requests after a refused request. NetlinkRefused has
        the first refusal.
        """
        outcomes = self.attempt(batch)
        for request, outcome in zip(batch, outcomes, strict=True):
            check(request, outcome)
        return outcomes

    def attempt(self, batch: Sequence[Request]) -> list[RequestOutcome]:
        """Like ``apply``, but return refusals as outcomes. Raises NetlinkLost."""
        outcomes: list[RequestOutcome] = []
        for start in range(0, len(batch), SEND_REQUESTS_MAX):
            outcomes += self._attempt(batch[start : start + SEND_REQUESTS_MAX])
        return outcomes

    def ask(self, request: Request) -> bytes | None:
        """The answer's body; None if the object does not exist."""
        (outcome,) = self.attempt([request])
        if outcome.errno in requests.GONE:
            return None
        check(request, outcome)
        return outcome.answer or None

    def _attempt(self, batch: Sequence[Request]) -> list[RequestOutcome]:
        outcomes: dict[int, RequestOutcome] = {}
        is_repeated, unanswered_sends = False, 0
        while len(outcomes) < len(batch):
            pending_indexes = [index for index in range(len(batch)) if index not in outcomes]
            with child_span(SEND_SPAN, "client") as span:
                answered = self._exchange(batch, pending_indexes)
                if span is not None:
                    _describe_send(span, [batch[index] for index in pending_indexes], answered)
            for index, outcome in answered.items():
                # An earlier send, whose answers were lost, may have executed the request.
                was_done = is_repeated and outcome.errno in (requests.EXISTS | requests.GONE)
                outcomes[index] = RequestOutcome() if was_done else outcome
            is_repeated = True
            if not answered:
                unanswered_sends += 1
            if unanswered_sends == SEND_TRIES_MAX:
                raise _lost(f"{len(batch) - len(outcomes)} of {len(batch)} answers")
        return [outcomes[index] for index in range(len(batch))]

    def _exchange(self, batch: Sequence[Request], indexes: list[int]) -> dict[int, RequestOutcome]:
        """Send requests once; return the known outcomes by index in ``batch``."""
        last = indexes[-1]
        numbers: dict[int, int] = {}
        parts = []
        for index in indexes:
            request = batch[index]
            self._sequence = self._sequence % 0xFFFFFFFF + 1
            numbers[self._sequence] = index
            flags = n.NLM_F_REQUEST | request.flags | (n.NLM_F_ACK if index == last else 0)
            parts.append(message(request.kind, flags, self._sequence, request.body))
        self._overrun = False
        self._send(b"".join(parts))
        # NLMSG_ERROR reports a refusal, or acknowledges the last request (NLM_F_ACK).
        reported_outcomes: dict[int, RequestOutcome] = {}
        answers: dict[int, bytes] = {}
        while not self._settled:
            data = self._receive()
            if data is None:
                break
            for kind, flags, sequence, body in messages(data):
                index = numbers.get(sequence, -1)
                if index < 0:
                    continue
                if kind != n.NLMSG_ERROR:
                    answers[index] = bytes(body)
                    continue
                reported_outcomes[index] = _outcome(flags, body, answers.get(index, b""))
                self._settled = index == last
        answered = {index: RequestOutcome(answer=answer) for index, answer in answers.items()}
        outcomes = answered | reported_outcomes
        if self._settled and not self._overrun:
            # No message was lost, so a request without an answer has succeeded.
            return {index: outcomes.get(index, _SUCCESS) for index in indexes}
        return outcomes

    # ---------------------------------------------------------------------------- listings

    def listing(self, request: Request, decode: Callable[[memoryview], T]) -> list[T]:
        """The decoded entries of a listing."""
        for _ in range(LISTING_TRIES_MAX):
            with suppress(_Interrupted), child_span(SEND_SPAN, "client") as span:
                entries = self._listing(request, decode)
                if span is not None:
                    span.set_attribute("netlink.requests", [request.what])
                    span.set_attribute("netlink.answers", len(entries))
                return entries
        raise NetlinkLost(
            f"netlink: `{request.what}`: the listed objects changed during each of"
            f" {LISTING_TRIES_MAX} tries, so no listing is complete",
            remedy="repeat the call; if it fails again, find the program that changes these objects"
            " so often, or raise net.core.rmem_max",
        )

    def links(self) -> list[Link]:
        """Every link."""
        return self.listing(requests.all_links(), replies.link)

    def link(self, name: str) -> Link | None:
        """The link of that name, or None."""
        answer = self.ask(requests.get_link(name))
        return None if answer is None else replies.link(memoryview(answer))

    def link_name(self, ifindex: int) -> str:
        """The link's name; "" if the link does not exist. Raises OSError."""
        try:
            answer = fcntl.ioctl(self._socket, n.SIOCGIFNAME, IFREQ_INDEX.pack(b"", ifindex))
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return ""
        name: bytes = IFREQ_INDEX.unpack(answer)[0]
        return name.rstrip(b"\0").decode(errors="replace")

    # ``family`` None: both families, IPv4 first.

    def addresses(self, family: Family | None = None) -> list[LinkAddress]:
        """Every address."""
        return self._of_family(requests.all_addresses(family), replies.link_address, family)

    def routes(self, family: Family | None = None, table: int = 0) -> list[KernelRoute]:
        """The routes of a table (0: of all tables), without cached routes."""
        # Kernels before 4.20 return the routes of all tables.
        return [
            route
            for route in self._of_family(requests.all_routes(family, table), replies.route, family)
            if table in (0, route.table) and not route.flags & n.RTM_F_CLONED
        ]

    def rules(self, family: Family | None = None) -> list[RoutingRule]:
        """Every policy rule, by priority."""
        return self._of_family(requests.all_rules(family), replies.rule, family)

    def neighbours(self, family: Family | None = None) -> list[Neighbour]:
        """Every neighbour entry."""
        return self._of_family(requests.all_neighbours(family), replies.neighbour, family)

    def route_to(self, destination: Address) -> KernelRoute | None:
        """The route to an address, or None."""
        answer = self.ask(requests.get_route_to_address(destination))
        return None if answer is None else replies.route(memoryview(answer))

    def _of_family(
        self, request: Request, decode: Callable[[memoryview], T | None], family: Family | None
    ) -> list[T]:
        # A kernel without IPv6 answers a request for IPv6 with other families.
        families = requests.AF_OF.values() if family is None else (requests.AF_OF[family],)

        def decode_if_of_family(body: memoryview) -> T | None:
            return decode(body) if body[0] in families else None

        return [entry for entry in self.listing(request, decode_if_of_family) if entry is not None]

    def _listing(self, request: Request, decode: Callable[[memoryview], T]) -> list[T]:
        self._sequence = sequence = self._sequence % 0xFFFFFFFF + 1
        self._send(message(request.kind, n.NLM_F_REQUEST | request.flags, sequence, request.body))
        entries: list[T] = []
        is_complete = True
        self._overrun = False
        while True:
            data = self._receive()
            if data is None:
                raise _Interrupted
            for kind, flags, number, body in messages(data):
                if number != sequence:
                    continue
                is_complete = is_complete and not flags & n.NLM_F_DUMP_INTR
                if kind == n.NLMSG_DONE:
                    self._settled = True
                    if not is_complete or self._overrun:
                        raise _Interrupted
                    return entries
                if kind == n.NLMSG_ERROR:
                    self._settled = True
                    check(request, _outcome(flags, body, b""))
                    return entries
                entries.append(decode(body))
                if len(entries) > LISTING_MESSAGES_MAX:
                    text = (
                        f"netlink: `{request.what}` lists more than {LISTING_MESSAGES_MAX} entries"
                    )
                    remedy = "find the program that creates them, on the node or in the Pod"
                    raise NetlinkLost(text, remedy=remedy)

    # ------------------------------------------------------------------------------ socket

    def _send(self, data: bytes) -> None:
        if not self._settled:
            self._drain()
        self._settled = False
        started = time.perf_counter()
        try:
            self._socket.send(data)
        finally:
            self.kernel_s += time.perf_counter() - started

    def _receive(self) -> memoryview | None:
        """The next datagram, or None if none is left. Sets ``_overrun`` after a loss."""
        started = time.perf_counter()
        try:
            while True:
                try:
                    return memoryview(self._socket.recv(RECEIVE_BYTES))
                except OSError as error:
                    if error.errno == EAGAIN:
                        return None
                    if error.errno != ENOBUFS:
                        raise
                    # The kernel reports the loss once; the queue may still have datagrams.
                    self._overrun = True
        finally:
            self.kernel_s += time.perf_counter() - started

    def _drain(self) -> None:
        """Discard the answers to an incomplete exchange."""
        while True:
            try:
                self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise


def check(request: Request, outcome: RequestOutcome) -> None:
    """Raise NetlinkRefused after an error that is not tolerated."""
    number = outcome.errno
    if not number or number in request.tolerated:
        return
    why = os.strerror(number) + (f": {outcome.text}" if outcome.text else "")
    remedy = "give this process the capability NET_ADMIN" if number == EPERM else ""
    raise NetlinkRefused(f"cannot {request.what}: {why}", errno=number, remedy=remedy)


def _describe_send(
    span: Span, batch: Sequence[Request], answered: Mapping[int, RequestOutcome]
) -> None:
    span.set_attribute("netlink.requests", [request.what for request in batch])
    errors = [outcome.errno for outcome in answered.values() if outcome.errno]
    if errors:
        names = [errorcode.get(number, str(number)) for number in errors]
        span.set_attribute("netlink.errors", names)


def _outcome(flags: int, body: memoryview, answer: bytes) -> RequestOutcome:
    # struct nlmsgerr: the errno; the header of the request; the request's body, unless
    # NLM_F_CAPPED is set; then attributes, if NLM_F_ACK_TLVS is set.
    number = -I32.unpack_from(body)[0]
    error_text = ""
    if flags & n.NLM_F_ACK_TLVS:
        start = I32.size + MESSAGE_HEADER.size
        if not flags & n.NLM_F_CAPPED:
            length = MESSAGE_HEADER.unpack_from(body, I32.size)[0]
            start = I32.size + length + (-length & 3)
        error_text = text(attributes(body[start:]).get(n.NLMSGERR_ATTR_MSG))
    return RequestOutcome(number, error_text, answer)


def _lost(what: str) -> NetlinkLost:
    return NetlinkLost(
        f"netlink: {what} did not arrive",
        remedy="repeat the call; if it fails again, raise net.core.rmem_max",
    )
