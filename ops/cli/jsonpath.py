"""JSONPath templates of kubectl (Kubernetes' documentation, "JSONPath Support"). Pure.

A path without a match gives no values and no error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from core.errors import BadInput

_BLOCK: Final = re.compile(r"\{((?:[^{}'\"]|'[^']*'|\"[^\"]*\")*)\}")
"""Braces inside quotes do not end a block."""

_STEP: Final = re.compile(
    r"""\.\.(?P<deep>[\w-]+)
    | \.?\[(?:
        (?P<index>-?\d+)
        | (?P<start>-?\d*):(?P<stop>-?\d*)
        | (?P<any>\*)
        | (?P<quote>['"])(?P<key>.*?)(?P=quote)
        | \?\(\s*@(?P<path>[^=!<>]+?)\s*(?P<operator>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)]+?)\s*\)
      )\]
    | \.(?P<field>\*|(?:\\.|[^.\[\]\\])+)""",
    re.VERBOSE,
)

_LITERAL: Final = re.compile(r"\s*(?:'([^']*)'|\"([^\"]*)\")\s*\Z")

_ASCII: Final = re.compile(r"[\x00-\x7f]+")

_RANGE: Final = re.compile(r"\s*range\s+(.+?)\s*\Z", re.DOTALL)


def find(path: str, value: object) -> list[Any]:
    """All values at a path, such as ``.metadata.labels``. Raises BadInput."""
    text = path.strip().removeprefix("{").removesuffix("}").strip()
    text = text.removeprefix("$").removeprefix("@")
    if text and not text.startswith((".", "[")):
        text = f".{text}"
    values = [value]
    position = 0
    while position < len(text) and text[position:] != ".":  # {.} is the value itself
        step = _STEP.match(text, position)
        if step is None:
            raise _syntax_error(path, position)
        values = [selected for parent in values for selected in _select(parent, step)]
        position = step.end()
    return values


def render(template: str, value: object) -> str:
    """Fill the template with fields of the value. Raises BadInput."""
    parts: list[tuple[str, str]] = []
    position = 0
    for block in _BLOCK.finditer(template):
        parts += [("text", template[position : block.start()]), ("block", block[1])]
        position = block.end()
    parts.append(("text", template[position:]))
    text_outside_blocks = _BLOCK.sub(lambda block: " " * len(block[0]), template)
    if brace := re.search("[{}]", text_outside_blocks):
        raise _syntax_error(template, brace.start())
    return "".join(_render_parts(parts, value, template))


def text_of(value: object) -> str:
    """A string unchanged; any other value as JSON on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _render_parts(parts: Sequence[tuple[str, str]], value: object, template: str) -> Iterator[str]:
    index = 0
    while index < len(parts):
        kind, text = parts[index]
        index += 1
        if kind == "text":
            yield text
        elif literal := _LITERAL.match(text):
            try:
                yield _unescape(literal[1] or literal[2] or "")
            except UnicodeDecodeError:
                raise _syntax_error(template, template.index(f"{{{text}}}")) from None
        elif range_block := _RANGE.match(text):
            end = _end_of_range(parts, index, template)
            for item in find(range_block[1], value):
                yield from _render_parts(parts[index:end], item, template)
            index = end + 1
        else:
            yield " ".join(text_of(item) for item in find(text, value))


def _unescape(literal: str) -> str:
    """Decode the escapes of a literal. Raises UnicodeDecodeError."""
    # Only ASCII is decoded: unicode_escape reads other bytes as Latin-1.
    return _ASCII.sub(lambda run: run[0].encode().decode("unicode_escape"), literal)


def _end_of_range(parts: Sequence[tuple[str, str]], start: int, template: str) -> int:
    """The index of the matching ``{end}``. Raises BadInput."""
    depth = 1
    for index in range(start, len(parts)):
        kind, text = parts[index]
        if kind == "block":
            if _RANGE.match(text):
                depth += 1
            elif text.strip() == "end":
                depth -= 1
            if depth == 0:
                return index
    raise BadInput(
        f"{template[:200]!r} has a {{range}} without an {{end}}",
        subject="jsonpath",
        remedy="write {end} after the repeated part",
    )


def _select(value: object, step: re.Match[str]) -> Iterator[object]:
    field = step["field"]
    if step["deep"]:
        yield from _descendants(value, step["deep"])
    elif step["any"] or field == "*":
        yield from _children(value)
    elif field or step["key"] is not None:
        name = step["key"] if field is None else re.sub(r"\\(.)", r"\1", field)
        if isinstance(value, Mapping) and name in value:
            yield value[name]
    elif not isinstance(value, Sequence) or isinstance(value, str):
        return
    elif step["index"]:
        index = int(step["index"])
        if -len(value) <= index < len(value):
            yield value[index]
    elif step["operator"]:
        literal = step["value"].strip("'\"")
        for item in value:
            texts = [text_of(item_value) for item_value in find(step["path"], item)]
            if (literal in texts) == (step["operator"] == "=="):
                yield item
    else:
        start, stop = (int(step[name]) if step[name] else None for name in ("start", "stop"))
        yield from value[start:stop]


def _children(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from value


def _descendants(value: object, name: str) -> Iterator[object]:
    """The fields of this name, at any depth."""
    if isinstance(value, Mapping) and name in value:
        yield value[name]
    for child in _children(value):
        yield from _descendants(child, name)


def _syntax_error(path: str, position: int) -> BadInput:
    return BadInput(
        f"{path[:200]!r} is not a JSONPath (error at character {position})",
        subject="jsonpath",
        remedy="write it as {.metadata.name} or {.items[*].metadata.name}",
    )
