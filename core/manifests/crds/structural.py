"""A struct of ``core.manifests.kinds`` -> a structural schema (OpenAPI v3 as Kubernetes has it).

Types, required fields and bounds follow from the struct, the rest from what ``described`` adds to
the fields. Structural schemas have no references and no null: structs are written out where they
are used, and ``X | None`` is an optional field.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect

Schema: TypeAlias = dict[str, Any]

_SCALARS: Final[dict[type[inspect.Type], str]] = {
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.BoolType: "boolean",
}


def schema_of(struct: type[msgspec.Struct], description: str) -> Schema:
    """The schema of an object with the struct's fields."""
    return {"description": description, **_schema(inspect.type_info(struct))}


def _schema(node: inspect.Type) -> Schema:
    match node:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return {**_schema(inner), **(extra or {})}
        case inspect.UnionType(types=types):
            (given,) = (one for one in types if not isinstance(one, inspect.NoneType))
            return _schema(given)
        case inspect.StructType(fields=fields):
            return _object(fields)
        case inspect.ListType(item_type=item):
            return {"type": "array", "items": _schema(item)}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)}
        case _:
            return {"type": _SCALARS[type(node)]}


def _object(fields: tuple[inspect.Field, ...]) -> Schema:
    properties = {one.encode_name: _schema(one.type) for one in fields}
    required = [one.encode_name for one in fields if one.required]
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema
