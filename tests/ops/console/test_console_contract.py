"""The responses match the schemas of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ops.console.conftest import Console
from tests.support.yaml_reader import read_yaml

pytestmark = pytest.mark.etcd

CONTRACT: Final = Path(__file__).parents[3] / "docs" / "reference" / "console-api.yaml"
DOCUMENT: Final[Any] = read_yaml(CONTRACT.read_text())
PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}

REQUESTS: Final = {
    "/log": "/log",
    "/overview": "/overview",
    "/pools": "/pools",
    "/pools/{name}": "/pools/main",
    "/pools/{name}/timeline": "/pools/main/timeline",
    "/pools/{name}/addresses": "/pools/six/addresses?last=fd00:6::ffff",
    "/subnets": "/subnets",
    "/reservations": "/reservations",
    "/reservations/{name}/timeline": "/reservations/dns/timeline",
    "/coordinators": "/coordinators",
    "/coordinators/{name}/timeline": "/coordinators/default/timeline",
    "/nodes/{name}/released": "/nodes/node-a/released",
    "/agents": "/agents",
    "/addresses": "/addresses",
    "/addresses/{address}": "/addresses/10.6.0.1",
    "/addresses/{address}/timeline": "/addresses/10.6.0.9/timeline",
    "/pods": "/pods",
    "/pods/{namespace}/{name}": "/pods/shop/db-0",
    "/pods/{namespace}/{name}/timeline": "/pods/shop/web-1/timeline",
    "/workflows": "/workflows",
    "/access": "/access",
    "/search": "/search?q=web",
    "/events": "/events",
}
"""Path in the OpenAPI document -> path of a request."""


def differences_from(value: Any, schema: Any, where: str) -> Iterator[str]:
    """Yield the differences between a value and a schema."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        attempts = [list(differences_from(value, option, where)) for option in schema["oneOf"]]
        if all(attempts):
            yield from min(attempts, key=len)
        return
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    if names and not any(isinstance(value, PYTHON_TYPES[name]) for name in names):
        yield f"{where}: {value!r} is not of type {types}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not in {schema['enum']}"
    if isinstance(value, dict):
        yield from _members(value, schema, where)
    elif isinstance(value, list):
        for item in value:
            yield from differences_from(item, schema.get("items", {}), f"{where}[]")


def _members(value: dict[str, Any], schema: Any, where: str) -> Iterator[str]:
    parts = [_resolved(part) for part in schema.get("allOf", [schema])]
    properties = {
        name: member for part in parts for name, member in part.get("properties", {}).items()
    }
    required = {name for part in parts for name in part.get("required", [])}
    yield from (f"{where}: {name} is missing" for name in required - value.keys())
    for name, member in value.items():
        if name in properties:
            yield from differences_from(member, properties[name], f"{where}.{name}")
        elif properties and "additionalProperties" not in schema:
            yield f"{where}.{name} is not described"


def _resolved(schema: Any) -> Any:
    if "$ref" in schema:
        return DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


async def test_every_answer_matches_its_schema(console: Console) -> None:
    paths = DOCUMENT["paths"]
    differences: list[str] = []
    for path, request in REQUESTS.items():
        answer = paths[path]["get"]["responses"]["200"]["content"]["application/json"]
        document = await console.get(request)
        differences += differences_from(document, answer["schema"], request)
    assert differences == []


async def test_an_error_matches_its_schema(console: Console) -> None:
    schema = DOCUMENT["components"]["schemas"]["Error"]
    reply = await console.reply("/api/v1/pools/nowhere")
    assert list(differences_from(reply.json, schema, "error")) == []


def test_an_undescribed_or_missing_member_is_a_difference() -> None:
    schema = {"$ref": "#/components/schemas/Instant"}
    assert list(differences_from({"position": 1, "time": None}, schema, "at")) == []
    # The position is not a number, the time is missing, and the clock is not described.
    invalid = {"position": "1", "clock": 2}
    assert len(list(differences_from(invalid, schema, "at"))) == 3
