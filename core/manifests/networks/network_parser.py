"""SpiderMultusConfigs out of a YAML text. Raises BadInput, which names document and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from core.errors import BadInput
from core.manifests.kinds.fields import API_VERSION
from core.manifests.kinds.multus_configs import MultusConfigSpec
from core.manifests.kinds.records import OpenMetadata
from core.manifests.manifest_parser import objects
from core.manifests.networks.rules import KIND, ReviewedNetwork

DEFAULT_NAMESPACE: Final = "default"


class _Manifest(Struct, rename="camel", frozen=True):
    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: MultusConfigSpec


def networks(text: str) -> Iterator[ReviewedNetwork]:
    """Every SpiderMultusConfig of the text, in order; other kinds are passed over."""
    for place, value in objects(text):
        if isinstance(value, Mapping) and value.get("kind") == KIND:
            yield network_of(value, place)


def network_of(value: Mapping[str, object], location: str = "object") -> ReviewedNetwork:
    """One that came as plain values, from YAML or from an API server."""
    try:
        manifest = msgspec.convert(value, _Manifest)
    except msgspec.ValidationError as error:
        raise BadInput(f"{location} ({KIND}): {error}") from None
    if manifest.api_version != API_VERSION:
        raise BadInput(f"{location}: apiVersion: {KIND} has {API_VERSION}", subject="apiVersion")
    metadata = manifest.metadata
    return ReviewedNetwork(
        metadata.namespace or DEFAULT_NAMESPACE,
        metadata.name,
        metadata.annotations or {},
        manifest.spec,
    )
