"""Compact storage of many texts. No I/O."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator


class TextColumn:
    """Texts by row, in one buffer. A text needs its UTF-8 bytes and 8 more."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("Q")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        begin = self._ends[row - 1] if row else 0
        return self._data[begin : self._ends[row]].decode()

    def encoded(self, rows: Iterable[int]) -> set[bytes]:
        """The distinct texts of these rows, in UTF-8."""
        data, ends = bytes(self._data), self._ends
        return {data[ends[row - 1] if row else 0 : ends[row]] for row in rows}

    def append(self, text: str) -> None:
        """Add a text."""
        self._data += text.encode()
        self._ends.append(len(self._data))

    def rows_with(self, text: str, rows_max: int, before: int | None = None) -> Iterator[int]:
        """At most ``rows_max`` rows below ``before`` that contain ``text``, descending."""
        rows = len(self) if before is None else before
        pattern, end = text.encode(), self._ends[rows - 1] if rows else 0
        while rows_max and (at := self._data.rfind(pattern, 0, end)) >= 0:
            row = bisect_right(self._ends, at)
            if at + len(pattern) <= self._ends[row]:
                yield row
                rows_max -= 1
                end = self._ends[row - 1] if row else 0
            else:
                end = at + len(pattern) - 1  # the match spans two texts


class NumberedTexts:
    """Numbers for texts that repeat."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: list[str] = []

    def number(self, text: str) -> int:
        """The number of a text; a new text gets the next number."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return number

    def __getitem__(self, number: int) -> str:
        return self._texts[number]

    def known_number(self, text: str) -> int | None:
        """The number of a text; None if the text has no number yet."""
        return self._numbers.get(text)

    def numbers_with(self, text: str) -> set[int]:
        """The numbers of the texts that contain ``text``, which must be in lower case."""
        return {number for number, name in enumerate(self._texts) if text in name.lower()}
