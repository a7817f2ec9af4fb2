"""SpiderMultusConfig: a network of Multus, the source of a NetworkAttachmentDefinition.

See docs/reference/custom-resources.md, "SpiderMultusConfig".
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct, field

from core.manifests.kinds.coordinators import CoordinatorSpec
from core.manifests.kinds.fields import NAME_CHARS_MAX, ValidationRule, described

POOLS_MAX: Final = 256
MASTERS_MAX: Final = 64
TRUNKS_MAX: Final = 4096
PLUGINS_MAX: Final = 32
VLAN_MAX: Final = 4094

CNI_TYPES: Final = {
    "macvlan": "macvlan",
    "ipvlan": "ipvlan",
    "vlan": "vlan",
    "sriov": "sriov",
    "ovs": "ovs",
    "ib-sriov": "ibsriov",
    "ipoib": "ipoib",
}
"""``cniType`` -> the field of ``spec`` that this type requires. ``custom`` requires no field."""

PoolName = Annotated[str, described("A SpiderIPPool.", maxLength=NAME_CHARS_MAX)]
VlanId = Annotated[
    int | None,
    described("The VLAN; 0 for none.", format="int32", minimum=0, maximum=VLAN_MAX),
]
LowestVlanId = Annotated[
    int | None,
    described("The lowest VLAN of a range.", format="int32", minimum=0, maximum=VLAN_MAX),
]
HighestVlanId = Annotated[
    int | None,
    described("The highest VLAN of a range.", format="int32", minimum=0, maximum=VLAN_MAX),
]
Mtu = Annotated[
    int | None,
    described("The MTU; 0 means the master's MTU.", default=0, format="int32", minimum=0),
]
SharedRdma = Annotated[
    bool | None,
    described(
        "Spiderpool 1.0's field for Pods that share the master's RDMA device. It has no effect:"
        " rdmaResourceName requests the device."
    ),
]
RATE_SCHEMA = {"format": "int64", "minimum": 0}


class NetworkPools(Struct, rename="camel", frozen=True):
    """The default pools of a network."""

    match_master_subnet: Annotated[
        bool | None,
        described(
            "Whether a pool must belong to a subnet in which the master has an address.",
            default=False,
        ),
    ] = None
    ipv4: Annotated[list[PoolName] | None, described("IPv4 pools.", maxItems=POOLS_MAX)] = None
    ipv6: Annotated[list[PoolName] | None, described("IPv6 pools.", maxItems=POOLS_MAX)] = None


Pools = Annotated[NetworkPools | None, described("The default pools of the network.")]
ResourceName = Annotated[
    str | None, described("The extended resource of the device plugin.", maxLength=317)
]
_NO_MASTER_MATCH: Final = ValidationRule(
    "!has(self.ippools) || !has(self.ippools.matchMasterSubnet) || !self.ippools.matchMasterSubnet",
    "ippools.matchMasterSubnet takes effect for sriov only",
)
_BOND_REQUIRED: Final = ValidationRule(
    "size(self.master) < 2 || (has(self.bond) && self.bond.name != '')",
    "several masters need bond with a name",
)
LINK_RULES: Final = (_NO_MASTER_MATCH, _BOND_REQUIRED)


class Bond(Struct, rename="camel", frozen=True):
    """The bond made of several masters."""

    name: Annotated[str, described("The interface's name.", maxLength=15)]
    mode: Annotated[
        int, described("The bonding mode, 0 to 6.", format="int32", minimum=0, maximum=6)
    ]
    options: Annotated[str | None, described("Options as key=value;key=value.")] = None


class LinkSpec(Struct, rename="camel", frozen=True):
    """The block ``macvlan`` or ``ipvlan``, and the base of the block ``vlan``."""

    master: Annotated[
        list[Annotated[str, described("A host interface.", maxLength=15)]],
        described("The host interfaces; several are bonded.", minItems=1, maxItems=MASTERS_MAX),
    ]
    mtu: Mtu = None
    vlan_id: VlanId = field(default=None, name="vlanID")
    bond: Annotated[Bond | None, described("The bond of several masters.")] = None
    enable_rdma: SharedRdma = None
    rdma_resource_name: ResourceName = None
    ippools: Pools = None


class VlanSpec(LinkSpec, rename="camel", frozen=True):
    """The block ``vlan``."""

    vlan_mode: Annotated[
        str | None,
        described(
            "How the VLAN is chosen: by vlanID (manual) or by the network provider (auto).",
            default="manual",
            enum=["manual", "auto"],
        ),
    ] = None


VLAN_RULES: Final = (
    ValidationRule(
        "self.vlanMode != 'auto' || !has(self.vlanID)",
        "vlanMode auto chooses the VLAN itself: leave vlanID out",
    ),
    *LINK_RULES,
)


class SriovSpec(Struct, rename="camel", frozen=True):
    """The block ``sriov``."""

    resource_name: ResourceName = None
    vlan_id: VlanId = field(default=None, name="vlanID")
    mtu: Mtu = None
    min_tx_rate_mbps: Annotated[
        int | None, described("The minimum transmit rate in Mbit/s; 0 means none.", **RATE_SCHEMA)
    ] = None
    max_tx_rate_mbps: Annotated[
        int | None, described("The maximum transmit rate in Mbit/s; 0 means none.", **RATE_SCHEMA)
    ] = None
    trust: Annotated[
        str | None,
        described(
            "Whether the Pod may become promiscuous and change its MAC address; if not set, the"
            " permission is not changed.",
            enum=["on", "off"],
        ),
    ] = None
    spoof_chk: Annotated[
        str | None,
        described(
            "Whether the NIC drops what the Pod sends with another source MAC address; if not set,"
            " the check is not changed.",
            enum=["on", "off"],
        ),
    ] = None
    rdma_isolation: Annotated[
        bool | None,
        described("Whether the RDMA device moves into the Pod.", default=False),
    ] = None
    enable_rdma: Annotated[
        bool | None, described("Spiderpool 1.0's name of rdmaIsolation; either field enables it.")
    ] = None
    ippools: Pools = None


_RESOURCE_RULE: Final = ValidationRule(
    "has(self.resourceName) && self.resourceName != ''", "resourceName is required"
)
SRIOV_RULES: Final = (
    ValidationRule(
        "(has(self.minTxRateMbps) ? self.minTxRateMbps : 0)"
        " <= (has(self.maxTxRateMbps) ? self.maxTxRateMbps : 0)",
        "minTxRateMbps must not be more than maxTxRateMbps",
    ),
    _RESOURCE_RULE,
)


class IbSriovSpec(Struct, rename="camel", frozen=True):
    """The block ``ibsriov``."""

    resource_name: ResourceName = None
    pkey: Annotated[str | None, described("The partition key.")] = None
    link_state: Annotated[
        str | None,
        described(
            "The state of the virtual function's link.",
            default="enable",
            enum=["auto", "enable", "disable"],
        ),
    ] = None
    rdma_isolation: Annotated[
        bool | None,
        described("Whether the RDMA device moves into the Pod.", default=True),
    ] = None
    enable_ib_kubernetes: Annotated[
        bool | None, described("Whether ib-kubernetes assigns GUIDs.", default=False)
    ] = None
    ib_kubernetes_enabled: Annotated[
        bool | None,
        described("Spiderpool 1.0's name of enableIbKubernetes; either field enables it."),
    ] = None
    ippools: Pools = None


IB_SRIOV_RULES: Final = (_RESOURCE_RULE,)


class IpoibSpec(Struct, rename="camel", frozen=True):
    """The block ``ipoib``."""

    master: Annotated[str | None, described("The host's InfiniBand interface.")] = None
    ippools: Pools = None


IPOIB_RULES: Final = (
    ValidationRule("has(self.master) && self.master != ''", "master is required"),
)


class Trunk(Struct, rename="camel", frozen=True):
    """Allowed VLANs: one VLAN, or a range of VLANs."""

    min_id: LowestVlanId = field(default=None, name="minID")
    max_id: HighestVlanId = field(default=None, name="maxID")
    id: VlanId = None


TRUNK_RULES: Final = (
    ValidationRule(
        "!has(self.maxID) || (has(self.minID) && self.minID <= self.maxID)",
        "maxID needs a minID that is not greater",
    ),
)


class OvsSpec(Struct, rename="camel", frozen=True):
    """The block ``ovs``."""

    bridge: Annotated[str, described("The Open vSwitch bridge.")]
    vlan: Annotated[int | None, described("The VLAN; 0 for none.", format="int32")] = None
    trunk: Annotated[
        list[Annotated[Trunk, described("Allowed VLANs.", rules=TRUNK_RULES)]] | None,
        described("VLANs whose tagged frames are allowed.", maxItems=TRUNKS_MAX),
    ] = None
    device_id: Annotated[str | None, described("The PCI address of an offloaded device.")] = field(
        default=None, name="deviceID"
    )
    ippools: Pools = None


class MultusConfigSpec(Struct, rename="camel", frozen=True):
    """``spec`` of a SpiderMultusConfig."""

    cni_type: Annotated[
        str | None,
        described("The main plugin.", default="custom", enum=[*CNI_TYPES, "custom"]),
    ] = None
    macvlan: Annotated[LinkSpec | None, described("For cniType macvlan.", rules=LINK_RULES)] = None
    ipvlan: Annotated[LinkSpec | None, described("For cniType ipvlan.", rules=LINK_RULES)] = None
    vlan: Annotated[VlanSpec | None, described("For cniType vlan.", rules=VLAN_RULES)] = None
    sriov: Annotated[SriovSpec | None, described("For cniType sriov.", rules=SRIOV_RULES)] = None
    ovs: Annotated[OvsSpec | None, described("For cniType ovs.")] = None
    ibsriov: Annotated[
        IbSriovSpec | None, described("For cniType ib-sriov.", rules=IB_SRIOV_RULES)
    ] = None
    ipoib: Annotated[IpoibSpec | None, described("For cniType ipoib.", rules=IPOIB_RULES)] = None
    enable_coordinator: Annotated[
        bool | None,
        described("Whether the chain has the coordinator plugin; never with custom.", default=True),
    ] = None
    disable_ipam: Annotated[
        bool | None, described("Whether interfaces get no addresses.", default=False)
    ] = field(default=None, name="disableIPAM")
    coordinator: Annotated[
        CoordinatorSpec | None,
        described("The settings of the coordinator plugin on this network."),
    ] = None
    chain_cni_json_data: Annotated[
        list[Annotated[str, described("A plugin's configuration as JSON.", minLength=1)]] | None,
        described("Additional plugins of the chain.", maxItems=PLUGINS_MAX),
    ] = field(default=None, name="chainCNIJsonData")
    custom_cni: Annotated[
        str | None, described("A complete CNI configuration as JSON, for cniType custom.")
    ] = field(default=None, name="customCNI")


MULTUS_RULES: Final = (
    *(
        ValidationRule(
            f"self.cniType != '{name}' || has(self.{block})", f"cniType {name} needs {block}"
        )
        for name, block in CNI_TYPES.items()
    ),
    *(
        ValidationRule(
            f"!has(self.{block}) || self.cniType == '{name}'",
            f"{block} is for cniType {name} only",
        )
        for name, block in [*CNI_TYPES.items(), ("custom", "customCNI")]
    ),
)
