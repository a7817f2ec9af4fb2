"""Checks ``spec.chainCNIJsonData``: CNI plugins that a user adds to a network.

See docs/reference/admission.md, "SpiderMultusConfig", rule 5. Keys are compared without regard to
case, as in Spiderpool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.errors import BadInput
from core.manifests.networks.gojson import Json, loads, sorted_keys

_TYPES: Final[Mapping[str, type]] = {
    "cniversion": str,
    "name": str,
    "type": str,
    "capabilities": Mapping,
    "ipam": Mapping,
    "dns": Mapping,
    "prevresult": Mapping,
}
"""The name of a field, in lower case -> the type of its value."""

_TYPE_NAMES: Final[Mapping[type, str]] = {str: "a string", Mapping: "an object"}


def chain_item(text: str) -> Json:
    """Parse an item of ``chainCNIJsonData``, and sort its keys. Raises BadInput."""
    value = loads(text)
    if not isinstance(value, Mapping):
        raise BadInput("a plugin's configuration must be a JSON object")
    fields = {key.lower(): field for key, field in value.items()}
    for key, kind in _TYPES.items():
        if fields.get(key) is not None and not isinstance(fields[key], kind):
            raise BadInput(f"{key} must be {_TYPE_NAMES[kind]}")
    if not fields.get("type"):
        raise BadInput("type is missing", remedy="set type to the name of the plugin's executable")
    _check_nested(fields)
    return sorted_keys(value)


def _check_nested(fields: Mapping[str, Json]) -> None:
    capabilities = fields.get("capabilities")
    if isinstance(capabilities, Mapping) and not all(
        isinstance(value, bool) for value in capabilities.values()
    ):
        raise BadInput("every value of capabilities must be true or false")
    ipam = fields.get("ipam")
    if isinstance(ipam, Mapping):
        ipam_fields = {key.lower(): value for key, value in ipam.items()}
        if not isinstance(ipam_fields.get("type", ""), str):
            raise BadInput("ipam.type must be a string")
