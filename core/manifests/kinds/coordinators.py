"""The settings of the coordinator plugin, in a SpiderCoordinator or a SpiderMultusConfig.

See docs/reference/custom-resource-rules.md, "SpiderCoordinator".
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct, field

from core.manifests.kinds.addresses import ADDRESS_CHARS_MAX, CIDR_CHARS_MAX, is_address
from core.manifests.kinds.fields import ROUTES_MAX, ValidationRule, described

DESTINATIONS_MAX: Final = 256
"""Entries of ``hijackCIDR``."""

_DESTINATION_RULE: Final = ValidationRule(
    f"isCIDR(self) || {is_address('self')}", "must be an address or a CIDR"
)


class PolicyRoute(Struct, rename="camel", frozen=True):
    """A static route of a Pod's policy table."""

    dst: Annotated[
        str,
        described(
            "The destination: an address or a CIDR.",
            rules=(_DESTINATION_RULE,),
            maxLength=CIDR_CHARS_MAX,
        ),
    ]
    gw: Annotated[
        str,
        described(
            "The next hop.",
            rules=(ValidationRule(is_address("self"), "must be an address"),),
            maxLength=ADDRESS_CHARS_MAX,
        ),
    ]


Destination = Annotated[
    str, described("An address or a CIDR.", rules=(_DESTINATION_RULE,), maxLength=CIDR_CHARS_MAX)
]


DURATION_CHARS_MAX: Final = 32


class DetectOptions(Struct, rename="camel", frozen=True):
    """The number and the timing of probes. Durations have Go's syntax, such as 100ms or 1s."""

    retries: Annotated[
        int | None,
        described(
            "The number of probes, at most 20; 0 means 3 for conflicts and 5 for the gateway.",
            format="int64",
            minimum=0,
        ),
    ] = None
    interval: Annotated[
        str | None,
        described(
            "The time between two probes; if empty, the probes are spread over the timeout.",
            maxLength=DURATION_CHARS_MAX,
        ),
    ] = None
    timeout: Annotated[
        str | None,
        described(
            "The time to wait for an answer, at most 10s. If empty, as long as the probes take; if"
            " interval is empty too, 100ms for conflicts and 500ms for the gateway.",
            maxLength=DURATION_CHARS_MAX,
        ),
    ] = None


class CoordinatorSpec(Struct, rename="camel", frozen=True):
    """``spec`` of a SpiderCoordinator, and ``spec.coordinator`` of a SpiderMultusConfig."""

    mode: Annotated[
        str | None,
        described(
            "How Pods are tuned: underlay, overlay, auto (detected), or disabled (not at all).",
            default="auto",
            enum=["auto", "underlay", "overlay", "disabled"],
        ),
    ] = None
    pod_cidr_type: Annotated[
        str | None,
        described(
            "Where the overlay network's Pod CIDRs are found.",
            enum=["auto", "cluster", "calico", "cilium", "none"],
        ),
    ] = field(default=None, name="podCIDRType")
    hijack_cidr: Annotated[
        list[Destination] | None,
        described(
            "Further destinations that Pods reach through the network stack of the host.",
            maxItems=DESTINATIONS_MAX,
        ),
    ] = field(default=None, name="hijackCIDR")
    policy_routes: Annotated[
        list[PolicyRoute] | None,
        described("Static routes of the interface's policy table.", maxItems=ROUTES_MAX),
    ] = None
    pod_mac_prefix: Annotated[
        str | None,
        described(
            "The first two bytes of Pods' MAC addresses, such as 0a:1b; the other bytes follow from"
            " the IP address. If empty, MAC addresses are not changed.",
            pattern="^([0-9A-Fa-f][02468ACEace]:[0-9A-Fa-f]{2})?$",
        ),
    ] = field(default=None, name="podMACPrefix")
    tune_pod_routes: Annotated[
        bool | None,
        described(
            "Whether routes of additional interfaces are moved into policy tables.", default=True
        ),
    ] = None
    pod_default_route_nic: Annotated[
        str | None,
        described("The interface that keeps the default route; if empty, the first one."),
    ] = field(default=None, name="podDefaultRouteNIC")
    host_rule_table: Annotated[
        int | None,
        described("The host's policy table for routes to Pods.", default=500, format="int64"),
    ] = None
    pod_rp_filter: Annotated[
        int | None,
        described(
            "rp_filter inside Pods: 0, 1 or 2; a negative value does not change it.",
            default=0,
            format="int64",
            maximum=2,
        ),
    ] = field(default=None, name="podRPFilter")
    host_rp_filter: Annotated[
        int | None,
        described(
            "rp_filter of all interfaces of the node: 0, 1 or 2; a negative or missing value does"
            " not change it.",
            format="int64",
            maximum=2,
        ),
    ] = field(default=None, name="hostRPFilter")
    detect_ip_conflict: Annotated[
        bool | None,
        described("Whether an address is probed for conflicting hosts before a Pod gets it."),
    ] = field(default=None, name="detectIPConflict")
    detect_gateway: Annotated[
        bool | None, described("Whether the gateway must answer a probe before a Pod starts.")
    ] = None
    detect_options: Annotated[
        DetectOptions | None,
        described("The number and timing of probes. A network replaces all values of the cluster."),
    ] = None
    tx_queue_len: Annotated[
        int | None,
        described(
            "The length of the interface's transmit queue; 0 does not change it.",
            default=0,
            format="int64",
            minimum=0,
        ),
    ] = None
    veth_link_address: Annotated[
        str | None,
        described(
            "An address for veth0 inside Pods; if empty, veth0 gets no address.",
            rules=(ValidationRule(f"self == '' || {is_address('self')}", "must be an address"),),
            maxLength=ADDRESS_CHARS_MAX,
        ),
    ] = None
    veth_mtu: Annotated[
        int | None, described("The MTU of the veth pair.", format="int64", minimum=1)
    ] = field(default=None, name="vethMTU")


SPIDER_COORDINATOR_RULES: Final = (
    ValidationRule("has(self.podCIDRType)", "podCIDRType is required"),
)


class CoordinatorReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderCoordinator."""

    phase: Annotated[str, described("Synced, or NotReady while the CIDRs below are not known.")]
    reason: Annotated[str | None, described("Why the phase is NotReady.")] = None
    overlay_pod_cidr: Annotated[
        list[str] | None, described("The Pod CIDRs of the overlay network.")
    ] = field(default=None, name="overlayPodCIDR")
    service_cidr: Annotated[list[str] | None, described("The Service CIDRs of the cluster.")] = (
        field(default=None, name="serviceCIDR")
    )
