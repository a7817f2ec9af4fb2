"""Texts in columns: every one once in a buffer, or as numbers where they repeat. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator


class TextColumn:
    """Texts, one after the other in one buffer: 8 bytes each and their length."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        begin = self._ends[row - 1] if row else 0
        return self._data[begin : self._ends[row]].decode()

    def encoded(self, rows: Iterable[int]) -> set[bytes]:
        """The distinct texts of these rows, as bytes."""
        data, ends = bytes(self._data), self._ends
        return {data[ends[row - 1] if row else 0 : ends[row]] for row in rows}

    def append(self, text: str) -> None:
        """Add a text."""
        self._data += text.encode()
        self._ends.append(len(self._data))

    def rows_with(self, text: str, rows_max: int, before: int | None = None) -> Iterator[int]:
        """The rows whose text contains this one, at most so many, the newest first.

        ``before``: of the rows before this one; None: of all.
        """
        rows = len(self) if before is None else before
        pattern, end = text.encode(), self._ends[rows - 1] if rows else 0
        while rows_max and (at := self._data.rfind(pattern, 0, end)) >= 0:
            row = bisect_right(self._ends, at)
            if at + len(pattern) <= self._ends[row]:
                yield row
                rows_max -= 1
                end = self._ends[row - 1] if row else 0
            else:
                end = at + len(pattern) - 1  # it reaches into the next text

    @property
    def nbytes(self) -> int:
        """What it occupies."""
        return len(self._data) + self._ends.itemsize * len(self._ends)


class Names:
    """Numbers for texts that repeat: nodes, interfaces, applications."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def number(self, text: str) -> int:
        """The text's number."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return number

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def known(self, text: str) -> int | None:
        """The text's number, if it has one."""
        return self._numbers.get(text)

    def numbers_with(self, text: str) -> set[int]:
        """The numbers of the texts that contain this one, in lower case."""
        return {number for number, one in enumerate(self._texts) if text in one.lower()}
