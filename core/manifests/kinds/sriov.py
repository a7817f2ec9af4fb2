"""SriovNetworkNodePolicy: which virtual functions nodes get (group sriovnetwork.openshift.io)."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct, field

from core.manifests.kinds.fields import NAME_CHARS_MAX, described
from core.manifests.kinds.records import OpenMetadata

API_VERSION: Final = "sriovnetwork.openshift.io/v1"
NODE_POLICY: Final = "SriovNetworkNodePolicy"

SELECTED_MAX: Final = 256
"""NICs that one policy names."""

NicText = Annotated[str, described("A NIC, with a range as in ens1f0#0-3.", maxLength=64)]
PciAddress = Annotated[str, described("A PCI address.", maxLength=NAME_CHARS_MAX)]


class NicSelectorSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Which NICs of a node; every field that is set must agree."""

    vendor: Annotated[str, described("The PCI vendor, such as 15b3.", maxLength=4)] = ""
    device_id: Annotated[str, described("The PCI device, such as 1017.", maxLength=4)] = field(
        default="", name="deviceID"
    )
    root_devices: Annotated[
        list[PciAddress] | None, described("PCI addresses.", maxItems=SELECTED_MAX)
    ] = None
    pf_names: Annotated[
        list[NicText] | None, described("Names of interfaces.", maxItems=SELECTED_MAX)
    ] = None
    net_filter: Annotated[str, described("Not supported: it is for OpenStack.")] = ""


class NodePolicySpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """How many virtual functions which NICs get, and what they are for."""

    resource_name: str
    num_vfs: Annotated[int, described("Virtual functions of each NIC.", minimum=0)]
    nic_selector: NicSelectorSpec
    node_selector: dict[str, str] | None = None
    priority: Annotated[
        int, described("The lower number is carried out first.", minimum=0, maximum=99)
    ] = 99
    mtu: Annotated[int, described("Of the NIC and its virtual functions.", minimum=0)] = 0
    link_type: Annotated[str, described("eth or ib; empty: any.")] = ""
    device_type: Annotated[str, described("netdevice or vfio-pci.")] = "netdevice"
    is_rdma: Annotated[bool, described("Whether Pods get the RDMA device too.")] = False
    e_switch_mode: Annotated[str, described("legacy or switchdev; empty: as it is.")] = ""
    externally_managed: Annotated[
        bool, described("Whether another program makes the virtual functions.")
    ] = False
    vhost_net: Annotated[bool, described("Accepted, without effect.")] = field(
        default=False, name="needVhostNet"
    )
    exclude_topology: Annotated[
        bool, described("Whether the NUMA node is withheld from kubelet.")
    ] = False
    vdpa_type: Annotated[str, described("Not supported.")] = ""


class NodePolicyManifest(Struct, rename="camel", frozen=True):
    """The whole object; its status is not read."""

    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: NodePolicySpec
