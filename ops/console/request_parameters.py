"""Reads the parameters of a request."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from core.audit.event_summary import EventFilter, check_types
from core.domain.addresses.ip_address import require_address
from core.errors import BadInput
from ops.console.events import EventConditions
from ops.console.json_values import LIMIT_DEFAULT, LIMIT_MAX, PageRequest

PAGE_PARAMETERS = frozenset(("limit", "cursor"))

EVENT_PARAMETERS = frozenset(
    ("kind", "pool", "namespace", "node", "address", "pod", "actor", "trace")
)


class ConsoleQuery:
    """The parameters of a request. Raises BadInput for a query parameter that is not ``known``."""

    def __init__(self, request: web.Request, known: Collection[str]) -> None:
        self._query = request.query
        self._path = request.match_info
        for name in request.query:
            if name not in known:
                raise BadInput(
                    f"there is no parameter {name[:64]!r}",
                    subject=name[:64],
                    remedy=f"use {', '.join(sorted(known)) or 'no parameter'}",
                )

    def path(self, name: str) -> str:
        """A variable of the path."""
        return self._path[name]

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        return self._query.get(name, default)

    def texts(self, name: str) -> list[str]:
        """Every value of a repeated query parameter."""
        return self._query.getall(name, [])

    def number(self, name: str, default: int, most: int, least: int = 1) -> int:
        """A whole number from ``least`` to ``most``. Raises BadInput."""
        text = self._query.get(name, "")
        if not text:
            return default
        value = int(text) if text.isdecimal() and len(text) <= len(str(most)) else -1
        if not least <= value <= most:
            raise BadInput(
                f"{name} {text[:64]!r} is not a whole number from {least} to {most}", subject=name
            )
        return value

    def page(self) -> PageRequest:
        """``limit`` and ``cursor``. Raises BadInput."""
        limit = self.number("limit", LIMIT_DEFAULT, LIMIT_MAX)
        return PageRequest(limit, self.text("cursor"))

    def conditions(self) -> EventConditions:
        """The conditions on events. Raises BadInput."""
        address = self.text("address")
        return EventConditions(
            EventFilter(
                types=check_types(self.texts("kind"), "kind"),
                pool=self.text("pool"),
                pod=self.text("pod"),
                node=self.text("node"),
                address=str(require_address(address)) if address else "",
                actor=self.text("actor"),
            ),
            namespace=self.text("namespace"),
            trace=self.text("trace"),
        )
