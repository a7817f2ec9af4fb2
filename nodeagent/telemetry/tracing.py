"""Spans of a request as the agent sees them, and the traceparent that its events keep.

    CNI ADD            parent: the runtime's TRACEPARENT, where it sets one
      ipam.allocate    the traceparent recorded in the events
        etcd.txn       from the queue of the writer to etcd's answer
    ipam.look          beside it: a look at the link, where detection is on

Whoever traces has a ``Tracer`` (``nodeagent.telemetry.spans``); who has none makes no span, and the
runtime's own traceparent goes into the events as it came. Attribute names follow the conventions of
OpenTelemetry where there are any; ours begin with ``cni.`` and ``ipam.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z"
)

AttributeValue = str | int | bool | Sequence[str]
Attributes = Mapping[str, str]


class Span(Protocol):
    """One span."""

    @property
    def traceparent(self) -> str:
        """The span's context as W3C text."""
        ...

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Say more about it."""
        ...


class Tracer(Protocol):
    """Makes spans; a span ends with its ``with`` block and is marked by an error that leaves it."""

    def request(
        self, name: str, traceparent: str, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """The outermost span of a request, under the caller's trace context."""
        ...

    def step(self, name: str) -> AbstractContextManager[Span]:
        """A span inside the present one."""
        ...

    def close(self) -> None:
        """Send what is left and stop."""
        ...


def valid_traceparent(text: str) -> str:
    """The text if it is a W3C traceparent, else "": what events keep must be readable."""
    return text if _TRACEPARENT.match(text) else ""
