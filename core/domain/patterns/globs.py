r"""Wildcards in pool names, with the meaning of Go's ``path/filepath.Match`` on Unix.

See docs/reference/pool-selection.md, "Families and wildcards". ``*`` and ``?`` do not match ``/``.
A malformed pattern is refused, whatever the name is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

SEPARATOR: Final = "/"
_PARSED_PATTERNS_MAX: Final = 256  # cached, since each pattern is compared with every pool


class BadPattern(ValueError):
    """A malformed pattern."""

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"syntax error in pattern {pattern!r}: {reason}")
        self.pattern = pattern
        self.reason = reason


class _CharacterClass(NamedTuple):
    """One element of a chunk, which matches exactly one character."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def accepts(self, character: str) -> bool:
        inside = any(low <= character <= high for low, high in self.ranges)
        return inside != self.negated


class _Chunk(NamedTuple):
    """The elements between two stars."""

    after_star: bool
    elements: tuple[_CharacterClass, ...]

    def fits(self, name: str, start: int) -> bool:
        if len(name) - start < len(self.elements):
            return False
        return all(
            element.accepts(name[start + index]) for index, element in enumerate(self.elements)
        )


_ANY: Final = _CharacterClass(((SEPARATOR, SEPARATOR),), negated=True)


def is_pattern(name: str) -> bool:
    """Whether a pool name contains ``*``, ``?``, or both ``[`` and ``]``."""
    return "*" in name or "?" in name or ("[" in name and "]" in name)


def match(pattern: str, name: str) -> bool:
    """Whether the whole of ``name`` matches. Raises BadPattern."""
    chunks = _parse(pattern)
    start = 0
    for index, chunk in enumerate(chunks):
        is_last = index == len(chunks) - 1
        if chunk.after_star and not chunk.elements:
            return SEPARATOR not in name[start:]
        position = _first_fit(chunk, name, start, at_end=is_last)
        if position < 0:
            return False
        start = position + len(chunk.elements)
    return start == len(name)


def _first_fit(chunk: _Chunk, name: str, start: int, *, at_end: bool) -> int:
    """The leftmost index at which the chunk fits; -1: none."""
    while True:
        if chunk.fits(name, start) and (not at_end or start + len(chunk.elements) == len(name)):
            return start
        if not chunk.after_star or start >= len(name) or name[start] == SEPARATOR:
            return -1
        start += 1


@lru_cache(maxsize=_PARSED_PATTERNS_MAX)
def _parse(pattern: str) -> tuple[_Chunk, ...]:
    chunks: list[_Chunk] = []
    after_star = False
    elements: list[_CharacterClass] = []
    position = 0
    while position < len(pattern):
        if pattern[position] == "*":
            if elements:
                chunks.append(_Chunk(after_star, tuple(elements)))
            after_star, elements = True, []
            position += 1
        else:
            element, position = _element(pattern, position)
            elements.append(element)
    if after_star or elements:
        chunks.append(_Chunk(after_star, tuple(elements)))
    return tuple(chunks)


def _element(pattern: str, position: int) -> tuple[_CharacterClass, int]:
    character = pattern[position]
    if character == "?":
        return _ANY, position + 1
    if character == "[":
        return _bracketed(pattern, position + 1)
    if character == "\\":
        position += 1
        if position == len(pattern):
            raise BadPattern(pattern, "it ends with a '\\'; write '\\\\' to match a backslash")
        character = pattern[position]
    return _CharacterClass(((character, character),)), position + 1


def _bracketed(pattern: str, position: int) -> tuple[_CharacterClass, int]:
    """The class and the next position. ``position``: the index after the ``[``."""
    negated = pattern.startswith("^", position)
    if negated:
        position += 1
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _class_character(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
        ranges.append((low, high))
    return _CharacterClass(tuple(ranges), negated), position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    """One character of a class, and the next position."""
    if pattern.startswith(("-", "]"), position):
        found = pattern[position]
        message = f"'{found}' has a special meaning in '[...]'; write '\\{found}' to match it there"
        raise BadPattern(pattern, message)
    if pattern.startswith("\\", position):
        position += 1
    if position + 1 >= len(pattern):
        raise BadPattern(pattern, "its '[' is not closed")
    return pattern[position], position + 1
