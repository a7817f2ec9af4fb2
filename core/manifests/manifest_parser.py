"""Parse YAML text into typed manifests.

Unknown fields are errors in custom resources, and are ignored in other objects. Raises only
BadInput.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import msgspec

from core.domain.validation.common_rules import shortened
from core.errors import BadInput
from core.manifests.documents import load_yaml
from core.manifests.kinds.fields import CORE_API_VERSION
from core.manifests.schema_errors import explain
from core.manifests.schemas import KINDS_NOT_SUPPORTED, MANIFEST_SCHEMAS, Body


def read_object(value: object, location: str = "object") -> Body:
    """Parse an object. Raises BadInput, which names ``location``."""
    kind = _text_of(value, "kind", location)
    api_version = _text_of(value, "apiVersion", location)
    expected_version, schema = _schema_of(kind, location)
    if api_version != expected_version:
        message = (
            f"{location}: apiVersion: {kind} needs {expected_version}, got"
            f" {shortened(api_version)!r}"
        )
        remedy = f"set apiVersion to {expected_version}"
        raise BadInput(message, subject="apiVersion", remedy=remedy)
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        fault = explain(error, schema, value)
        where = f"{location} ({kind}): " + (f"{fault.path}: " if fault.path else "")
        message = where + fault.message
        raise BadInput(message, subject=fault.path, remedy=fault.remedy) from None


def objects(text: str) -> Iterator[tuple[str, object]]:
    """Yield (location, object) for each object, or each item of a ``List``. Raises BadInput."""
    for number, value in load_yaml(text):
        location = f"document {number}"
        if not (isinstance(value, Mapping) and value.get("kind") == "List"):
            yield location, value
            continue
        items = value.get("items")
        if value.get("apiVersion") != CORE_API_VERSION or not isinstance(items, list):
            message = f"{location}: a List needs apiVersion {CORE_API_VERSION} and a list of items"
            raise BadInput(message, subject="items")
        for index, item in enumerate(items):
            yield f"{location}, items[{index}]", item


def _text_of(value: object, field: str, location: str) -> str:
    if not isinstance(value, Mapping):
        raise BadInput(f"{location}: expected an object with apiVersion, kind and metadata")
    text = value.get(field)
    if not isinstance(text, str) or not text:
        raise BadInput(f"{location}: {field}: expected a string", subject=field)
    return text


def _schema_of(kind: str, location: str) -> tuple[str, type[Body]]:
    if kind in MANIFEST_SCHEMAS:
        return MANIFEST_SCHEMAS[kind]
    if kind in KINDS_NOT_SUPPORTED:
        message = f"{location}: kind: {kind} is not supported by this version"
        raise BadInput(message, subject="kind", remedy=f"supported: {', '.join(MANIFEST_SCHEMAS)}")
    close = get_close_matches(kind, MANIFEST_SCHEMAS, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"supported: {', '.join(MANIFEST_SCHEMAS)}"
    raise BadInput(
        f"{location}: kind: {shortened(kind)!r} is unknown", subject="kind", remedy=remedy
    )
