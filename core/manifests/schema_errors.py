"""Explains a msgspec error: the field, the fault, and a similar field name as the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Final, NamedTuple, get_args

import msgspec

from core.domain.validation.common_rules import shortened

JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors that ``msgspec.json.decode`` raises for text or bytes that it cannot decode."""

_LOCATION: Final = re.compile(
    r"(?P<text>.*?) - at (?P<key>`key` in )?`\$\.?(?P<path>.*)`\Z", re.DOTALL
)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`\Z")
_WRONG_TYPE: Final = re.compile(r"Expected `(?P<expected>[^`]*)`(, got `(?P<actual>[^`]*)`)?\Z")
_INDEX: Final = re.compile(r"\[\d+\]")
_UNNAMED_KEY: Final = "[...]"
_OUT_OF_RANGE: Final = re.compile(r"Expected `int` [<>]=")
_SIMILARITY_MIN: Final = 0.7
_TYPE_NAMES: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


class FieldFault(NamedTuple):
    """A fault of one field; ``path`` is "" for the document itself."""

    path: str
    message: str
    remedy: str = ""


def explain(
    error: msgspec.ValidationError, schema: type[msgspec.Struct], value: object
) -> FieldFault:
    """The fault in ``value`` that msgspec reported as ``error``."""
    match = _LOCATION.match(str(error))
    text = match["text"] if match else str(error)
    path = match["path"] if match else ""
    if match and match["key"]:
        return FieldFault(path, "a key is not a string", "put the key into quotes")
    if path.endswith(_UNNAMED_KEY):
        path = _path_with_key(path.removesuffix(_UNNAMED_KEY), value)
    if unknown := _UNKNOWN.match(text):
        return _unknown_field_fault(path, unknown["name"], schema)
    if missing := _MISSING.match(text):
        return FieldFault(_joined(path, missing["name"]), "is required and missing")
    if wrong_type := _WRONG_TYPE.match(text):
        return FieldFault(path, _mismatch(wrong_type["expected"], wrong_type["actual"]))
    if _OUT_OF_RANGE.match(text):
        return FieldFault(path, "the number is out of range")
    return FieldFault(path, text)


def find_unknown_field(schema: type[msgspec.Struct], value: object) -> FieldFault | None:
    """The fault of the first field that the schema lacks; None if it lacks none."""
    paths_of_schema = frozenset(known_paths(schema))
    for path, name in _fields_in(value, ""):
        if _joined(_INDEX.sub("", path), name) not in paths_of_schema:
            return _unknown_field_fault(path, name, schema)
    return None


def _fields_in(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path of the mapping, key) for every key of every mapping, parents first."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield path, str(key)
            yield from _fields_in(inner, _joined(path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _fields_in(inner, f"{path}[{index}]")


def _mismatch(expected: str, actual: str | None) -> str:
    kinds = [_TYPE_NAMES.get(kind, kind) for kind in expected.split(" | ") if kind != "null"]
    message = f"expected {' or '.join(kinds)}"
    return f"{message}, got {_TYPE_NAMES.get(actual, actual)}" if actual else message


def _unknown_field_fault(path: str, name: str, schema: type[msgspec.Struct]) -> FieldFault:
    known = known_paths(schema)
    parent = _INDEX.sub("", path)
    split_paths = [known_path.rpartition(".") for known_path in known]
    siblings = {field for mapping, _, field in split_paths if mapping == parent}
    same_name_paths = [
        _joined(mapping, field) for mapping, _, field in split_paths if field == name
    ]
    fault = FieldFault(_joined(path, shortened(name)), "there is no such field")
    if similar_names := get_close_matches(name, siblings, n=1, cutoff=_SIMILARITY_MIN):
        return fault._replace(remedy=f"did you mean {_joined(path, similar_names[0])}?")
    if same_name_paths:
        return fault._replace(remedy=f"did you mean {same_name_paths[0]}?")
    return fault._replace(remedy=f"known here: {', '.join(sorted(siblings))}")


@cache
def known_paths(schema: type[msgspec.Struct]) -> tuple[str, ...]:
    """Every field of a schema as a dotted path without indexes, parents before children."""
    return tuple(_paths(schema, ""))


def _paths(schema: type[msgspec.Struct], parent: str) -> Iterator[str]:
    fields = msgspec.structs.fields(schema)
    yield from (_joined(parent, field.encode_name) for field in fields)
    for field in fields:
        for inner in _structs_in(field.type):
            yield from _paths(inner, _joined(parent, field.encode_name))


def _structs_in(annotation: object) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for part in get_args(annotation):
        yield from _structs_in(part)


def _path_with_key(path: str, value: object) -> str:
    """The path with the key of the faulty item; msgspec does not report keys.

    All mappings with free keys (such as labels) have strings as values, so msgspec refused the
    first value that is not a string.
    """
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    items = value.items() if isinstance(value, Mapping) else ()
    key = next((key for key, item in items if not isinstance(item, str)), "...")
    return f"{path}[{shortened(str(key))}]"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
