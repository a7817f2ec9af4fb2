"""Pod, StatefulSet, Namespace and Node: what we use of their manifests is read, the rest passes."""

from __future__ import annotations

from msgspec import Struct

from core.manifests.kinds.fields import Int64


class OwnerReference(Struct, rename="camel", frozen=True):
    """Who made the object; other fields are ignored."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None


class OpenMetadata(Struct, rename="camel", frozen=True):
    """Metadata of Pod, Namespace and Node: what we use of it."""

    name: str
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class RecordManifest(Struct, rename="camel", frozen=True):
    """A Pod, Namespace or Node: a record of what an operator says of it."""

    api_version: str
    kind: str
    metadata: OpenMetadata


class Ordinals(Struct, rename="camel", frozen=True):
    """Which replica is the first."""

    start: Int64 | None = None


class StatefulSetSpec(Struct, rename="camel", frozen=True):
    """Which replicas are wanted; without a number, one."""

    replicas: Int64 | None = None
    ordinals: Ordinals | None = None


class StatefulSetManifest(Struct, rename="camel", frozen=True):
    """A StatefulSet: a record of which replicas it wants."""

    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: StatefulSetSpec
