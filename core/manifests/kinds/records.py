"""Pods, Namespaces, Nodes and built-in applications; unknown fields are ignored."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from core.manifests.kinds.fields import Int64


class OwnerReference(Struct, rename="camel", frozen=True):
    """An entry of ``metadata.ownerReferences``."""

    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool | None = None


class OpenMetadata(Struct, rename="camel", frozen=True):
    """``metadata`` of an object."""

    name: str
    uid: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class RecordManifest(Struct, rename="camel", frozen=True):
    """A Pod, Namespace or Node."""

    api_version: str
    kind: str
    metadata: OpenMetadata


Int32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class TemplateMetadata(Struct, rename="camel", frozen=True):
    """Metadata of a Pod template."""

    annotations: dict[str, str] | None = None


class TemplateSpec(Struct, rename="camel", frozen=True):
    """``spec`` of a Pod template."""

    host_network: bool | None = None


class PodTemplate(Struct, rename="camel", frozen=True):
    """The Pod template of an application."""

    metadata: TemplateMetadata | None = None
    spec: TemplateSpec | None = None


class Ordinals(Struct, rename="camel", frozen=True):
    """``spec.ordinals`` of a StatefulSet."""

    start: Int64 | None = None


class WorkloadSpec(Struct, rename="camel", frozen=True):
    """``spec`` of an application or of a Job template."""

    replicas: Int64 | None = None
    ordinals: Ordinals | None = None
    completions: Int32 | None = None
    parallelism: Int32 | None = None
    template: PodTemplate | None = None
    job_template: JobTemplate | None = None


class JobTemplate(Struct, rename="camel", frozen=True):
    """The Job template of a CronJob."""

    spec: WorkloadSpec | None = None


class WorkloadStatus(Struct, rename="camel", frozen=True):
    """``status`` of an application. Only a DaemonSet has ``desiredNumberScheduled``."""

    desired_number_scheduled: Int32 | None = None


class WorkloadManifest(Struct, rename="camel", frozen=True):
    """An application of a built-in kind, such as a Deployment."""

    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: WorkloadSpec | None = None
    status: WorkloadStatus | None = None
