"""The kinds that can be parsed as manifests.

A field that is ``null`` counts as missing, as in Kubernetes.
"""

from __future__ import annotations

from typing import Final

from core.domain.autopools.applications import BUILT_IN
from core.manifests.kinds.fields import API_VERSION, CORE_API_VERSION, DISCOVERY_API_VERSION
from core.manifests.kinds.pools import PoolManifest, ReservationManifest, SubnetManifest
from core.manifests.kinds.records import RecordManifest, WorkloadManifest
from core.manifests.kinds.services import ServiceManifest, SliceManifest

RecordBody = RecordManifest | WorkloadManifest | ServiceManifest | SliceManifest
Body = PoolManifest | SubnetManifest | ReservationManifest | RecordBody

MANIFEST_SCHEMAS: Final[dict[str, tuple[str, type[Body]]]] = {
    "SpiderIPPool": (API_VERSION, PoolManifest),
    "SpiderSubnet": (API_VERSION, SubnetManifest),
    "SpiderReservedIP": (API_VERSION, ReservationManifest),
    "Pod": (CORE_API_VERSION, RecordManifest),
    "Namespace": (CORE_API_VERSION, RecordManifest),
    "Node": (CORE_API_VERSION, RecordManifest),
    **{kind: (version, WorkloadManifest) for kind, version in BUILT_IN.items()},
    "Service": (CORE_API_VERSION, ServiceManifest),
    "EndpointSlice": (DISCOVERY_API_VERSION, SliceManifest),
}
"""Kind -> (apiVersion, fields)."""

KINDS_NOT_SUPPORTED: Final = (
    "SpiderCoordinator",
    "SpiderEndpoint",
    "SpiderMultusConfig",
)
"""Kinds of Spiderpool that the manifest parser does not parse."""
