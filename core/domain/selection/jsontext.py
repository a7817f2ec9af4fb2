"""Parse the JSON of annotations, as tolerantly as Spiderpool does. A null counts as empty.

See docs/reference/pool-selection.md, "Annotations". The case of keys is ignored, and the last of
several equal keys is used. Every error is a BadInput, which does not name the annotation. ``what``
is the name of the value in errors.
"""

from __future__ import annotations

import json
from typing import Final

from core.errors import BadInput

JSON_CHARS_MAX: Final = 262_144
"""Kubernetes limits all annotations of an object to 256 KiB."""

_KINDS: Final[dict[type, str]] = {
    str: "a string",
    bool: "a boolean",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def parse(text: str) -> object:
    """Parse a JSON document, and change keys to lower case."""
    if len(text) > JSON_CHARS_MAX:
        raise BadInput(f"JSON has {len(text)} characters, more than {JSON_CHARS_MAX}")
    try:
        return _decode(text)
    except json.JSONDecodeError as error:
        raise BadInput(_fault(text, error)) from None
    except RecursionError:
        raise BadInput("JSON is nested too deeply") from None


def items(value: object, what: str) -> list[object]:
    """Check that the value is a list; return its items."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadInput(f"{what} must be a list, not {_kind(value)}")
    return value


def members(value: object, what: str) -> dict[str, object]:
    """Check that the value is an object; return its members."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(f"{what} must be an object, not {_kind(value)}")
    return value


def text(value: object, what: str) -> str:
    """Check that the value is a string; return it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInput(f"{what} must be a string, not {_kind(value)}")
    if value.isascii():
        return value
    # JSON may contain half of a surrogate pair, which has no UTF-8 form.
    return value.encode("utf-8", "replace").decode("utf-8")


def texts(value: object, what: str) -> tuple[str, ...]:
    """Check that the value is a list of strings; return them."""
    return tuple(text(member, f"each member of {what}") for member in items(value, what))


def flag(value: object, what: str) -> bool:
    """Check that the value is a boolean; return it."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadInput(f"{what} must be true or false, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return _KINDS[type(value)]


def _with_lower_case_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {key.lower(): value for key, value in pairs}


def _refuse_constant(name: str) -> object:
    raise BadInput(f"invalid character '{name[0]}': {name} is not JSON")


# One decoder for all texts: to build a decoder takes longer than to parse most texts. Integers are
# parsed as floats, because Python raises an error for a very long integer.
_decode = json.JSONDecoder(
    object_pairs_hook=_with_lower_case_keys, parse_constant=_refuse_constant, parse_int=float
).decode


def _fault(document: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(document) or error.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    expected = error.msg[0].lower() + error.msg[1:]
    return f"invalid character {document[error.pos]!r} at position {error.pos}: {expected}"
