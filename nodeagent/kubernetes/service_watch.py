"""Watches Services and EndpointSlices, and computes the frontends of ClusterIPs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from core.domain.services import EndpointSlice, Service
from core.kubernetes.api_client import Api, Object
from core.kubernetes.informer import Informer, ObjectKey
from core.manifests.kinds.services import ServiceSpec, SliceBody
from core.manifests.services import service_of, slice_of
from core.process.concurrency import until_all
from nodeagent.clusterip.frontends import BackendGroup, Frontend
from nodeagent.clusterip.service_sources import ServiceIndex

_log: Final = logging.getLogger(__name__)


class KubernetesServices:
    """The Services and EndpointSlices of a cluster."""

    def __init__(self, api: Api, node: str) -> None:
        self.services = Informer(api, "/api/v1/services", cached_service)
        self.slices = Informer(api, "/apis/discovery.k8s.io/v1/endpointslices", cached_slice)
        self._index = ServiceIndex(node)
        self._changed = asyncio.Event()
        self.services.listen(self._on_services)
        self.slices.listen(self._on_slices)

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.services.run(), self.slices.run())

    @property
    def reflectors(self) -> Sequence[Informer]:
        """All informers."""
        return self.services, self.slices

    def frontends(self) -> Mapping[Frontend, BackendGroup] | None:
        """The frontends; None until Services and EndpointSlices have been listed once."""
        if not (self.services.listed.is_set() and self.slices.listed.is_set()):
            return None
        self._changed.clear()
        return self._index.frontends()

    async def changed(self) -> None:
        """Wait for a change of Services or EndpointSlices."""
        await self._changed.wait()
        if not (self.services.listed.is_set() and self.slices.listed.is_set()):
            self._changed.clear()  # ``frontends`` clears it only after the first lists

    def _on_services(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            cached = self.services.objects.get(key)
            service: Service | None = None if cached is None else cached["service"]
            self._index.put_service(key, service, {} if cached is None else cached["labels"])
        self._changed.set()

    def _on_slices(self, keys: set[ObjectKey]) -> None:
        for key in keys:
            cached = self.slices.objects.get(key)
            slice_: EndpointSlice | None = None if cached is None else cached["slice"]
            self._index.put_slice(key, slice_)
        self._changed.set()


def cached_service(service_object: Object) -> Object:
    """The cached part of a Service; an unreadable Service has no addresses."""
    metadata = service_object["metadata"]
    try:
        service = service_of(msgspec.convert(service_object.get("spec", {}), ServiceSpec))
    except msgspec.ValidationError as error:
        name = _name_of(metadata)
        _log.warning("cannot read Service %s, so it is not served: %s", name, error)
        service = Service()
    return {
        "metadata": _identity(metadata),
        "labels": metadata.get("labels") or {},
        "service": service,
    }


def cached_slice(slice_object: Object) -> Object:
    """The cached part of an EndpointSlice. ``slice`` None: unreadable, or of host names."""
    metadata = slice_object["metadata"]
    try:
        slice_ = slice_of(msgspec.convert(slice_object, SliceBody), metadata.get("labels") or {})
    except msgspec.ValidationError as error:
        name = _name_of(metadata)
        _log.warning("cannot read EndpointSlice %s, so it has no backends: %s", name, error)
        slice_ = None
    return {"metadata": _identity(metadata), "slice": slice_}


def _identity(metadata: Mapping[str, str]) -> Object:
    return {name: metadata[name] for name in ("namespace", "name", "resourceVersion")}


def _name_of(metadata: Mapping[str, str]) -> str:
    return f"{metadata['namespace']}/{metadata['name']}"
