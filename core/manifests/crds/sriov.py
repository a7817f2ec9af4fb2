"""The CustomResourceDefinitions of group sriovnetwork.openshift.io, where no operator brings them.

Names, scope and fields are those of the SR-IOV network operator. The chart brings them with
``sriov.install`` and leaves definitions of others as they are. Fields that the operator has beyond
these (vDPA, OpenStack, bridges) are not there.
"""

from __future__ import annotations

from typing import Final

from core.manifests.crds.definitions import WIDE, CustomResourceKind, PrinterColumn
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
    "",
    "How many virtual functions NICs of nodes get, and which resource they are.",
    schema_of(NodePolicySpec, "The nodes, the NICs, and their virtual functions."),
    None,
    (
        PrinterColumn("RESOURCE", ".spec.resourceName"),
        PrinterColumn("NUM-VFS", ".spec.numVfs", "integer"),
        PrinterColumn("DEVICE-TYPE", ".spec.deviceType"),
        PrinterColumn("PRIORITY", ".spec.priority", "integer"),
    ),
    namespaced=True,
    subresource=False,
    api_version=API_VERSION,
    categories=(),
)

NODE_STATE_KIND: Final = CustomResourceKind(
    NODE_STATE,
    "",
    "The NICs of a node with their virtual functions, and what policies ask for.",
    schema_of(NodeStateSpec, "What the policies come to on the node of this name."),
    schema_of(NodeStateReport, "What the node has: written by its agent."),
    (
        PrinterColumn("SYNC STATUS", ".status.syncStatus"),
        PrinterColumn("AGE", ".metadata.creationTimestamp", "date"),
        PrinterColumn("ERROR", ".status.lastSyncError", priority=WIDE),
    ),
    namespaced=True,
    required=(),
    api_version=API_VERSION,
    categories=(),
)

SRIOV_KINDS: Final = (NODE_POLICY_KIND, NODE_STATE_KIND)
