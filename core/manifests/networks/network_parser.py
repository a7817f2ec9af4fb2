"""Parses SpiderMultusConfigs and SpiderCoordinators from decoded YAML or JSON.

The ``checked_...`` functions refuse unknown fields, which would have no effect. ``network_of``
ignores them, so that an agent can read a network of a newer version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from core.errors import BadInput
from core.manifests.kinds.coordinators import CoordinatorSpec
from core.manifests.kinds.fields import API_VERSION
from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.kinds.records import OpenMetadata
from core.manifests.networks.network_validation import MULTUS_CONFIG_KIND, ReviewedNetwork
from core.manifests.schema_errors import find_unknown_field

DEFAULT_NAMESPACE: Final = "default"
COORDINATOR_KIND: Final = "SpiderCoordinator"
_MEMBERS: Final = ("apiVersion", "kind", "metadata", "spec", "status")


class _Manifest(Struct, rename="camel", frozen=True):
    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: MultusConfigSpec


class _Coordinator(Struct, rename="camel", frozen=True):
    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: CoordinatorSpec


def checked_network(value: Mapping[str, object], location: str = "object") -> ReviewedNetwork:
    """Parse a SpiderMultusConfig; an unknown field is an error. Raises BadInput."""
    _require_known(value, _Manifest, f"{location} ({MULTUS_CONFIG_KIND})")
    return network_of(value, location)


def checked_coordinator(
    value: Mapping[str, object], location: str = "object"
) -> tuple[str, CoordinatorSpec]:
    """Parse name and spec of a SpiderCoordinator; an unknown field is an error. Raises BadInput."""
    where = f"{location} ({COORDINATOR_KIND})"
    _require_known(value, _Coordinator, where)
    try:
        manifest = msgspec.convert(value, _Coordinator)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {error}", remedy="correct this field") from None
    _require_version(manifest.api_version, where)
    return manifest.metadata.name, manifest.spec


def network_of(value: Mapping[str, object], location: str = "object") -> ReviewedNetwork:
    """Parse a SpiderMultusConfig; unknown fields are ignored. Raises BadInput."""
    try:
        manifest = msgspec.convert(value, _Manifest)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{location} ({MULTUS_CONFIG_KIND}): {error}", remedy="correct this field"
        ) from None
    _require_version(manifest.api_version, f"{location} ({MULTUS_CONFIG_KIND})")
    metadata = manifest.metadata
    return ReviewedNetwork(
        metadata.namespace or DEFAULT_NAMESPACE,
        metadata.name,
        metadata.annotations or {},
        manifest.spec,
    )


def _require_version(version: str, where: str) -> None:
    if version != API_VERSION:
        message = f"{where}: apiVersion: expected {API_VERSION}, got {version[:80]!r}"
        raise BadInput(message, subject="apiVersion", remedy=f"set apiVersion to {API_VERSION}")


def _require_known(value: Mapping[str, object], schema: type[Struct], where: str) -> None:
    for member in value:
        if member not in _MEMBERS:
            message = f"{where}: {str(member)[:80]}: there is no such field"
            raise BadInput(message, subject=str(member), remedy=f"known: {', '.join(_MEMBERS)}")
    fault = find_unknown_field(schema, {"spec": value.get("spec")})
    if fault is not None:
        message = f"{where}: {fault.path}: {fault.message}"
        raise BadInput(message, subject=fault.path, remedy=fault.remedy)
