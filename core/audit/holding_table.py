"""A table of the holdings of one pool: which holder had which address, between which positions.

A row is one holding; rows are in the order in which the holdings began. Columns make a row small:
about 100 bytes. No I/O.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple

from core.audit.compact_texts import NumberedTexts, TextColumn

OPEN_END: Final = 2**64 - 1
"""The end position of a holding that has not ended."""

HALF_BITS: Final = 64
"""An address has up to 128 bits, which need two columns."""

_HALF: Final = 2**HALF_BITS - 1


class Holder(NamedTuple):
    """The holder of an address.

    ``pod``: NAMESPACE/NAME. ``mac``: 48 bits, 0 if unknown. ``trace``: the low 64 bits of the trace
    id of the ADD. ``revision``: the claim's etcd revision.
    """

    pod: str
    node: str
    interface: str
    application: str
    mac: int
    trace: int
    revision: int


class HoldingRow(NamedTuple):
    """A row. ``value``: the address as a number. ``began``, ``ended``: positions."""

    value: int
    began: int
    ended: int
    holder: Holder


class HoldingTable:
    """The holdings of one pool. ``names`` may be shared with other tables."""

    def __init__(self, names: NumberedTexts) -> None:
        self._names = names
        self._high, self._low = array("Q"), array("Q")
        self._began, self._ended = array("Q"), array("Q")
        # The end positions and their rows, in the order in which the holdings ended.
        self._ends_in_order, self._rows_in_order = array("Q"), array("I")
        self._nodes, self._interfaces, self._applications = array("I"), array("I"), array("I")
        self._macs, self._traces, self._revisions = array("Q"), array("Q"), array("Q")
        self._open: dict[int, int] = {}  # address -> row of its current holding
        self._cached_rows: tuple[tuple[int, int, int], list[int]] = ((-1, 0, 0), [])
        self.pods = TextColumn()

    def __len__(self) -> int:
        return len(self._began)

    def begin(self, value: int, position: int, holder: Holder) -> None:
        """Begin a holding of the address; end the current holding, if any."""
        self.end(value, position)
        self._open[value] = len(self._began)
        self._high.append(value >> HALF_BITS)
        self._low.append(value & _HALF)
        self._began.append(position)
        self._ended.append(OPEN_END)
        self.pods.append(holder.pod)
        number = self._names.number
        self._nodes.append(number(holder.node))
        self._interfaces.append(number(holder.interface))
        self._applications.append(number(holder.application))
        self._macs.append(holder.mac)
        self._traces.append(holder.trace)
        self._revisions.append(holder.revision)

    def end(self, value: int, position: int) -> None:
        """End the current holding of the address, if any."""
        row = self._open.pop(value, None)
        if row is not None:
            self._ended[row] = position
            self._ends_in_order.append(position)
            self._rows_in_order.append(row)

    def holder_now(self, value: int) -> Holder | None:
        """The current holder of an address."""
        row = self._open.get(value)
        return None if row is None else self.holder(row)

    def revision_now(self, value: int) -> int:
        """The revision of the current claim of an address; 0: the address is unclaimed."""
        row = self._open.get(value)
        return 0 if row is None else self._revisions[row]

    def holder(self, row: int) -> Holder:
        """The holder of a row."""
        names = self._names
        return Holder(
            self.pods[row],
            names[self._nodes[row]],
            names[self._interfaces[row]],
            names[self._applications[row]],
            self._macs[row],
            self._traces[row],
            self._revisions[row],
        )

    def holding(self, row: int) -> HoldingRow:
        """All columns of a row."""
        return HoldingRow(self.value(row), self._began[row], self._ended[row], self.holder(row))

    def node(self, row: int) -> str:
        """The node of a row."""
        return self._names[self._nodes[row]]

    def row_at(self, value: int, position: int) -> int | None:
        """The row of an address at a position; None if the address was not held."""
        return next((row for row in self.rows_at(position) if self.value(row) == value), None)

    def ended(self, row: int) -> int:
        """The position at which the holding ended."""
        return self._ended[row]

    def value(self, row: int) -> int:
        """The address of a row."""
        return self._high[row] << HALF_BITS | self._low[row]

    def count_at(self, position: int) -> int:
        """How many addresses are held at the position."""
        return bisect_right(self._began, position) - bisect_right(self._ends_in_order, position)

    def count_begun(self, position: int) -> int:
        """How many holdings have begun up to the position."""
        return bisect_right(self._began, position)

    def rows_at(self, position: int) -> list[int]:
        """The rows of the holdings at the position, ascending. The last result is cached."""
        cache_key = position, len(self._began), len(self._ends_in_order)
        if self._cached_rows[0] != cache_key:
            ends = self._ended[: bisect_right(self._began, position)]
            rows = [row for row, ended in enumerate(ends) if ended > position]
            self._cached_rows = cache_key, rows
        return self._cached_rows[1]

    def nodes_at(self, position: int) -> Counter[str]:
        """How many addresses each node holds at the position."""
        numbers = Counter(map(self._nodes.__getitem__, self.rows_at(position)))
        return Counter({self._names[number]: count for number, count in numbers.items()})

    def rows_ended(self, after: int, upto: int) -> list[int]:
        """The rows of the holdings that ended in (after, upto], the earliest end first."""
        first = bisect_right(self._ends_in_order, after)
        last = bisect_right(self._ends_in_order, upto)
        return list(self._rows_in_order[first:last])

    def rows_ended_on(self, node: str, position: int, rows_max: int) -> list[int]:
        """At most ``rows_max`` rows of a node that ended by the position, latest end first."""
        number, nodes = self._names.known_number(node), self._nodes
        ended = reversed(self._rows_in_order[: bisect_right(self._ends_in_order, position)])
        return list(islice((row for row in ended if nodes[row] == number), rows_max))

    def values_at(self, position: int) -> set[int]:
        """The addresses held at the position."""
        rows = self.rows_at(position)
        low = self._low
        if not any(self._high):  # a pool of IPv4 addresses
            return {low[row] for row in rows}
        return {self.value(row) for row in rows}

    def rows_of_address(self, value: int) -> Iterator[int]:
        """The rows of an address, ascending."""
        high = value >> HALF_BITS
        return (row for row in rows_of(self._low, value & _HALF) if self._high[row] == high)

    def named_rows(
        self, text: str, position: int
    ) -> Iterator[tuple[Literal["node", "application"], str, int]]:
        """Yield kind, name and newest row of nodes and applications whose name contains ``text``.

        ``text`` must be in lower case. Rows that began after the position are ignored.
        """
        numbers = self._names.numbers_with(text)
        if not numbers:
            return
        columns: tuple[tuple[Literal["node", "application"], array[int]], ...] = (
            ("node", self._nodes),
            ("application", self._applications),
        )
        count = self.count_begun(position)
        for kind, column in columns:
            rows = enumerate(column[:count])
            newest = {number: row for row, number in rows if number in numbers}
            for number, row in newest.items():
                yield kind, self._names[number], row

    def rows_with_mac(self, mac: int) -> Iterator[int]:
        """The rows of a MAC address, ascending."""
        return rows_of(self._macs, mac)

    def rows_with_trace(self, trace: int) -> Iterator[int]:
        """The rows of the claims that were made in this trace, ascending."""
        return rows_of(self._traces, trace)


def rows_of(column: array[int], value: int) -> Iterator[int]:
    """The rows that have this value in the column, ascending."""
    row = -1
    try:
        while True:
            row = column.index(value, row + 1)
            yield row
    except ValueError:
        return
