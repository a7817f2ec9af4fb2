"""Spans of a request, and the traceparent that its events keep.

    CNI ADD            parent: the runtime's TRACEPARENT, where it sets one
      ipam.allocate    the traceparent recorded in the events
        etcd.txn       from the writer's queue to etcd's answer
    ipam.look          a sibling: the probe of the link, where conflict detection is on

An agent that exports traces has a ``Tracer`` (``telemetry.spans``). Without it no span is made and
the events keep the traceparent of the runtime. Attribute names follow the semantic conventions of
OpenTelemetry; names of this project begin with ``cni.`` and ``ipam.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Protocol

from core.domain.facts import PodReference
from core.domain.model import Attachment

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
        """Add an attribute."""
        ...


class Tracer(Protocol):
    """Makes spans. A span ends with its ``with`` block; an exception marks it as failed."""

    def request(
        self, name: str, traceparent: str, attributes: Attributes
    ) -> AbstractContextManager[Span]:
        """The outermost span of a request, under the caller's trace context."""
        ...

    def step(self, name: str) -> AbstractContextManager[Span]:
        """A child of the current span."""
        ...

    def close(self) -> None:
        """Export the remaining spans and stop."""
        ...


NO_SPAN: Final[AbstractContextManager[Span | None]] = nullcontext()
"""In place of ``request_span`` where nothing traces."""


@contextmanager
def request_span(
    tracer: Tracer,
    command: str,
    step: str,
    pod: PodReference,
    attachment: Attachment,
    traceparent: str,
) -> Iterator[Span]:
    """The spans of a CNI command and, inside it, of a step, whose context the events keep."""
    named = {
        "cni.command": command,
        "cni.container_id": attachment.container,
        "cni.network.name": attachment.network,
        "network.interface.name": attachment.interface,
        "k8s.namespace.name": pod.namespace,
        "k8s.pod.name": pod.name,
        "k8s.pod.uid": pod.uid,
    }
    attributes = {name: value for name, value in named.items() if value}
    with tracer.request(f"CNI {command}", traceparent, attributes), tracer.step(step) as span:
        yield span


def valid_traceparent(text: str) -> str:
    """The text if it is a W3C traceparent, else ""."""
    return text if _TRACEPARENT.match(text) else ""
