"""Makes structural schemas (OpenAPI v3 of Kubernetes) from the structs of ``core.manifests.kinds``.

Structural schemas have no references and no null: nested structs are written out, and ``X | None``
is an optional field.
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


def _schema(field_type: inspect.Type) -> Schema:
    match field_type:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return {**_schema(inner), **(extra or {})}
        case inspect.UnionType(types=types):
            (value_type,) = (item for item in types if not isinstance(item, inspect.NoneType))
            return _schema(value_type)
        case inspect.StructType(fields=fields):
            return _object(fields)
        case inspect.ListType(item_type=item):
            return {"type": "array", "items": _schema(item)}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)}
        case _:
            return {"type": _SCALARS[type(field_type)]}


def _object(fields: tuple[inspect.Field, ...]) -> Schema:
    properties = {field.encode_name: _schema(field.type) for field in fields}
    required = [field.encode_name for field in fields if field.required]
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema
