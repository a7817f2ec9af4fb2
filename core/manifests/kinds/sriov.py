"""SriovNetworkNodePolicy and SriovNetworkNodeState, of group sriovnetwork.openshift.io.

The fields are those of the SR-IOV network operator, so that its manifests work unchanged.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct, field

from core.manifests.kinds.fields import NAME_CHARS_MAX, described
from core.manifests.kinds.records import OpenMetadata

API_VERSION: Final = "sriovnetwork.openshift.io/v1"
NODE_POLICY: Final = "SriovNetworkNodePolicy"
NODE_STATE: Final = "SriovNetworkNodeState"

SELECTED_MAX: Final = 256
"""The most entries of each of ``rootDevices`` and ``pfNames``."""

PfName = Annotated[
    str,
    described("A NIC, or a range of its virtual functions as in ens1f0#0-3.", maxLength=64),
]
PciAddress = Annotated[str, described("A PCI address.", maxLength=NAME_CHARS_MAX)]


class NicSelectorSpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Selects NICs of a node; every field that is set must match."""

    vendor: Annotated[str, described("The PCI vendor, such as 15b3.", maxLength=4)] = ""
    device_id: Annotated[str, described("The PCI device, such as 1017.", maxLength=4)] = field(
        default="", name="deviceID"
    )
    root_devices: Annotated[
        list[PciAddress] | None, described("PCI addresses.", maxItems=SELECTED_MAX)
    ] = None
    pf_names: Annotated[
        list[PfName] | None, described("Names of interfaces.", maxItems=SELECTED_MAX)
    ] = None
    net_filter: Annotated[str, described("Not supported: it is for OpenStack.")] = ""


class NodePolicySpec(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """``spec`` of a SriovNetworkNodePolicy."""

    resource_name: Annotated[
        str,
        described("The extended resource of the virtual functions, without its prefix."),
    ]
    num_vfs: Annotated[int, described("Virtual functions of each NIC.", minimum=0)]
    nic_selector: Annotated[NicSelectorSpec, described("The NICs that the policy applies to.")]
    node_selector: Annotated[
        dict[str, str] | None,
        described("Labels of the nodes that the policy applies to; if empty, all nodes."),
    ] = None
    priority: Annotated[
        int, described("Policies with a lower number are applied first.", minimum=0, maximum=99)
    ] = 99
    mtu: Annotated[int, described("The MTU of the NIC and its virtual functions.", minimum=0)] = 0
    link_type: Annotated[
        str,
        described("eth or ib; if empty, any type.", enum=["", "eth", "ETH", "ib", "IB"]),
    ] = ""
    device_type: Annotated[
        str,
        described(
            "netdevice or vfio-pci; if empty, netdevice.", enum=["", "netdevice", "vfio-pci"]
        ),
    ] = "netdevice"
    is_rdma: Annotated[bool, described("Whether Pods get the RDMA device too.")] = False
    e_switch_mode: Annotated[
        str,
        described(
            "legacy or switchdev; if empty, the mode is not changed.",
            enum=["", "legacy", "switchdev"],
        ),
    ] = ""
    externally_managed: Annotated[
        bool, described("Whether another program creates the virtual functions.")
    ] = False
    vhost_net: Annotated[bool, described("Accepted, without effect.")] = field(
        default=False, name="needVhostNet"
    )
    exclude_topology: Annotated[
        bool, described("Whether the NUMA node is withheld from kubelet.")
    ] = False
    vdpa_type: Annotated[str, described("Not supported.")] = ""
    trust: Annotated[
        str,
        described(
            "Whether virtual functions may become promiscuous and change their MAC address; if"
            " empty, it is not changed.",
            enum=["", "on", "off"],
        ),
    ] = ""
    spoof_chk: Annotated[
        str,
        described(
            "Whether the NIC drops what virtual functions send with another source MAC address; if"
            " empty, it is not changed.",
            enum=["", "on", "off"],
        ),
    ] = ""


class NodePolicyManifest(Struct, rename="camel", frozen=True):
    """A SriovNetworkNodePolicy; its status is not read."""

    api_version: str
    kind: str
    metadata: OpenMetadata
    spec: NodePolicySpec


class VfGroupSpec(Struct, rename="camel", frozen=True, omit_defaults=True):
    """Virtual functions of one NIC that belong to one resource."""

    resource_name: Annotated[str, described("The extended resource, without its prefix.")] = ""
    policy_name: Annotated[str, described("The policy that requests the virtual functions.")] = ""
    vf_range: Annotated[str, described("The numbers of the virtual functions, as in 0-3.")] = ""
    device_type: Annotated[str, described("netdevice or vfio-pci.")] = ""
    is_rdma: Annotated[bool, described("Whether Pods get the RDMA device too.")] = False
    mtu: Annotated[int, described("The MTU of the virtual functions; 0: not changed.")] = 0
    vdpa_type: Annotated[str, described("Not used.")] = ""
    trust: Annotated[str, described("on or off; empty: not changed.")] = ""
    spoof_chk: Annotated[str, described("on or off; empty: not changed.")] = ""


class DesiredInterface(Struct, rename="camel", frozen=True, omit_defaults=True):
    """The desired state of a NIC."""

    pci_address: Annotated[str, described("The PCI address of the NIC.")]
    name: Annotated[str, described("The name of its interface.")] = ""
    num_vfs: Annotated[int, described("The desired number of virtual functions.")] = 0
    mtu: Annotated[int, described("The MTU; 0: not changed.")] = 0
    link_type: Annotated[str, described("eth or ib.")] = ""
    e_switch_mode: Annotated[str, described("legacy or switchdev; empty: not changed.")] = ""
    vf_groups: Annotated[
        list[VfGroupSpec] | None, described("The resources of its virtual functions.")
    ] = None
    externally_managed: Annotated[
        bool, described("Whether another program creates the virtual functions.")
    ] = False


class NodeStateSpec(Struct, rename="camel", frozen=True):
    """``spec`` of a SriovNetworkNodeState: what the policies of the node request."""

    interfaces: Annotated[
        list[DesiredInterface] | None, described("The NICs that policies select.")
    ] = None


class VfReport(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A virtual function of a NIC."""

    vf_id: Annotated[int, described("The number of the virtual function.")] = field(name="vfID")
    pci_address: Annotated[str, described("The PCI address.")]
    name: Annotated[str, described("The interface on the node.")] = ""
    mac: Annotated[str, described("The MAC address of the interface.")] = ""
    guid: Annotated[str, described("The GUID, on InfiniBand.")] = ""
    driver: Annotated[str, described("The driver.")] = ""
    mtu: Annotated[int, described("The MTU of the interface.")] = 0
    vlan: Annotated[int, described("The VLAN of the virtual function's network; 0: none.")] = field(
        default=0, name="Vlan"
    )
    assigned: Annotated[str, described("Whether a Pod has the virtual function.")] = ""
    vendor: Annotated[str, described("The PCI vendor ID.")] = ""
    device_id: Annotated[str, described("The PCI device ID.")] = field(default="", name="deviceID")
    trust: Annotated[str, described("on or off; empty if the driver does not show it.")] = ""
    spoof_chk: Annotated[str, described("on or off; empty if the driver does not show it.")] = ""


class InterfaceReport(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A NIC that can have virtual functions."""

    pci_address: Annotated[str, described("The PCI address.")]
    name: Annotated[str, described("The name of its interface.")] = ""
    mac: Annotated[str, described("The MAC address; for InfiniBand, the GUID.")] = ""
    driver: Annotated[str, described("The driver.")] = ""
    vendor: Annotated[str, described("The PCI vendor ID.")] = ""
    device_id: Annotated[str, described("The PCI device ID.")] = field(default="", name="deviceID")
    mtu: Annotated[int, described("The MTU.")] = 0
    link_type: Annotated[str, described("ETH or IB.")] = ""
    link_speed: Annotated[str, described("Not used.")] = ""
    link_admin_state: Annotated[str, described("Not used.")] = ""
    net_filter: Annotated[str, described("Not used.")] = ""
    e_switch_mode: Annotated[str, described("legacy or switchdev.")] = ""
    totalvfs: Annotated[int, described("How many virtual functions it can have.")] = 0
    num_vfs: Annotated[int, described("How many virtual functions it has.")] = 0
    externally_managed: Annotated[
        bool, described("Whether another program creates the virtual functions.")
    ] = False
    vfs: Annotated[list[VfReport] | None, described("The virtual functions.")] = field(
        default=None, name="Vfs"
    )


class NodeStateReport(Struct, rename="camel", frozen=True):
    """``status`` of a SriovNetworkNodeState: the NICs, and whether the spec is applied."""

    interfaces: Annotated[
        list[InterfaceReport] | None, described("The NICs that can have virtual functions.")
    ] = None
    sync_status: Annotated[str, described("Succeeded, InProgress or Failed.")] = ""
    last_sync_error: Annotated[str, described("The refusal or failure, and what to do.")] = ""
