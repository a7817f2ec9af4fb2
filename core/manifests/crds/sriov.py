"""The CustomResourceDefinitions of group sriovnetwork.openshift.io, for clusters without them.

They lack the SR-IOV network operator's fields for vDPA, OpenStack and bridges. With
``sriov.install``, the chart installs missing definitions and does not change existing ones.
"""

from __future__ import annotations

from typing import Final

from core.manifests.crds.names_and_columns import WIDE_PRIORITY, CustomResourceKind, PrinterColumn
from core.manifests.crds.structural import schema_of
from core.manifests.kinds.sriov import (
    API_VERSION,
    NODE_POLICY,
    NODE_STATE,
    NodePolicySpec,
    NodeStateReport,
    NodeStateSpec,
)

NODE_POLICY_KIND: Final = CustomResourceKind(
    NODE_POLICY,
    short_name="",
    description="The number of virtual functions of NICs, and their extended resource.",
    spec=schema_of(NodePolicySpec, "The nodes, the NICs, and their virtual functions."),
    status=None,
    columns=(
        PrinterColumn("RESOURCE", ".spec.resourceName"),
        PrinterColumn("NUM-VFS", ".spec.numVfs", "integer"),
        PrinterColumn("DEVICE-TYPE", ".spec.deviceType"),
        PrinterColumn("PRIORITY", ".spec.priority", "integer"),
    ),
    namespaced=True,
    status_subresource=False,
    api_version=API_VERSION,
    categories=(),
)

NODE_STATE_KIND: Final = CustomResourceKind(
    NODE_STATE,
    short_name="",
    description="The NICs of a node with their virtual functions, desired and actual.",
    spec=schema_of(NodeStateSpec, "The state that all policies request for the node of this name."),
    status=schema_of(NodeStateReport, "The actual state, written by the node's agent."),
    columns=(
        PrinterColumn("SYNC STATUS", ".status.syncStatus"),
        PrinterColumn("AGE", ".metadata.creationTimestamp", "date"),
        PrinterColumn("ERROR", ".status.lastSyncError", priority=WIDE_PRIORITY),
    ),
    namespaced=True,
    required=(),
    api_version=API_VERSION,
    categories=(),
)

SRIOV_KINDS: Final = (NODE_POLICY_KIND, NODE_STATE_KIND)
