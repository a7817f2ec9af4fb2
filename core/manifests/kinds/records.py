"""Pod, Namespace and Node: of their manifests only the metadata is read, the rest passes."""

from __future__ import annotations

from msgspec import Struct


class OwnerReference(Struct, rename="camel", frozen=True):
    """Who made the object; other fields are ignored."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None


class OpenMetadata(Struct, rename="camel", frozen=True):
    """Metadata of Pod, Namespace, Node and applications: what we use of it."""

    name: str
    uid: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class RecordManifest(Struct, rename="camel", frozen=True):
    """A Pod, Namespace or Node: a record of what an operator says of it."""

    api_version: str
    kind: str
    metadata: OpenMetadata
