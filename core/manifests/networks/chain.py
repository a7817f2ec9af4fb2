"""The plugins that a user adds to the chain: ``spec.chainCNIJsonData``, each a text of JSON.

An item is a CNI plugin configuration: an object with a non-empty ``type``, whose known fields have
the types that the CNI specification gives them (docs/reference/admission.md, "SpiderMultusConfig",
rule 5). Keys match in any case, as in Spiderpool.
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
"""Known fields in lower case, and their types."""


def chain_item(text: str) -> Json:
    """The plugin's configuration, keys sorted. Raises BadInput."""
    value = loads(text)
    if not isinstance(value, Mapping):
        raise BadInput("a plugin's configuration is a JSON object")
    known = {key.lower(): one for key, one in value.items()}
    for key, kind in _TYPES.items():
        if known.get(key) is not None and not isinstance(known[key], kind):
            raise BadInput(f"{key} has the wrong type")
    if not known.get("type"):
        raise BadInput("type is missing", remedy="name the plugin's executable")
    _check_inner(known)
    return sorted_keys(value)


def _check_inner(known: Mapping[str, Json]) -> None:
    capabilities = known.get("capabilities")
    if isinstance(capabilities, Mapping) and not all(
        isinstance(value, bool) for value in capabilities.values()
    ):
        raise BadInput("capabilities are true or false")
    ipam = known.get("ipam")
    if isinstance(ipam, Mapping):
        inner = {key.lower(): value for key, value in ipam.items()}
        if not isinstance(inner.get("type", ""), str):
            raise BadInput("ipam.type has the wrong type")
