"""SpiderCoordinator, whose fields a SpiderMultusConfig has too.

See docs/reference/custom-resource-rules.md, "SpiderCoordinator".
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Struct, field

from core.manifests.kinds.addresses import ADDRESS_CHARS_MAX, CIDR_CHARS_MAX, is_address
from core.manifests.kinds.fields import ROUTES_MAX, ValidationRule, described

NETWORKS_MAX: Final = 256
_NETWORK_RULE: Final = ValidationRule(
    f"isCIDR(self) || {is_address('self')}", "must be an address or a CIDR"
)


class PolicyRoute(Struct, rename="camel", frozen=True):
    """A static route of a Pod's policy table."""

    dst: Annotated[
        str,
        described(
            "The destination: an address or a CIDR.",
            rules=(_NETWORK_RULE,),
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


Network = Annotated[
    str, described("An address or a CIDR.", rules=(_NETWORK_RULE,), maxLength=CIDR_CHARS_MAX)
]


DURATION_CHARS_MAX: Final = 32


class DetectOptions(Struct, rename="camel", frozen=True):
    """The number and the timeout of probes. Durations are Go's, such as 100ms or 1s."""

    retries: Annotated[
        int | None,
        described(
            "The probes that are sent, at most 20; 0: 3 for conflicts, 5 for the gateway.",
            format="int64",
            minimum=0,
        ),
    ] = None
    interval: Annotated[
        str | None,
        described(
            "The time between two probes; empty: they are spread over the timeout.",
            maxLength=DURATION_CHARS_MAX,
        ),
    ] = None
    timeout: Annotated[
        str | None,
        described(
            "How long an answer is waited for, at most 10s; empty: as long as the probes take, or"
            " without an interval 100ms for conflicts and 500ms for the gateway.",
            maxLength=DURATION_CHARS_MAX,
        ),
    ] = None


class CoordinatorSpec(Struct, rename="camel", frozen=True):
    """``spec`` of a SpiderCoordinator, and ``spec.coordinator`` of a SpiderMultusConfig."""

    mode: Annotated[
        str | None,
        described(
            "How Pods are tuned: underlay, overlay, found out (auto), or not at all (disabled).",
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
        list[Network] | None,
        described("Further destinations sent through the host's stack.", maxItems=NETWORKS_MAX),
    ] = field(default=None, name="hijackCIDR")
    policy_routes: Annotated[
        list[PolicyRoute] | None,
        described("Static routes of the interface's policy table.", maxItems=ROUTES_MAX),
    ] = None
    pod_mac_prefix: Annotated[
        str | None,
        described(
            "The first two bytes of Pods' MAC addresses, such as 0a:1b; the rest follows from the"
            " address. Empty: MAC addresses are left alone.",
            pattern="^([0-9A-Fa-f][02468ACEace]:[0-9A-Fa-f]{2})?$",
        ),
    ] = field(default=None, name="podMACPrefix")
    tune_pod_routes: Annotated[
        bool | None,
        described("Whether routes of further interfaces move into policy tables.", default=True),
    ] = None
    pod_default_route_nic: Annotated[
        str | None, described("The interface that keeps the default route; empty: the first one.")
    ] = field(default=None, name="podDefaultRouteNIC")
    host_rule_table: Annotated[
        int | None,
        described("The host's policy table for routes to Pods.", default=500, format="int64"),
    ] = None
    pod_rp_filter: Annotated[
        int | None,
        described(
            "rp_filter inside Pods: 0, 1 or 2; negative: left alone.",
            default=0,
            format="int64",
            maximum=2,
        ),
    ] = field(default=None, name="podRPFilter")
    host_rp_filter: Annotated[
        int | None,
        described(
            "rp_filter of the node, on all of its interfaces: 0, 1 or 2; negative or not set: left"
            " alone.",
            format="int64",
            maximum=2,
        ),
    ] = field(default=None, name="hostRPFilter")
    detect_ip_conflict: Annotated[
        bool | None,
        described("Whether an address of a Pod is probed first, for a host that uses it."),
    ] = field(default=None, name="detectIPConflict")
    detect_gateway: Annotated[
        bool | None, described("Whether the gateway of a Pod has to answer a probe first.")
    ] = None
    detect_options: Annotated[
        DetectOptions | None, described("How often and how long probes ask; used as a whole.")
    ] = None
    tx_queue_len: Annotated[
        int | None,
        described(
            "The length of the interface's transmit queue; 0: left alone.",
            default=0,
            format="int64",
            minimum=0,
        ),
    ] = None
    veth_link_address: Annotated[
        str | None,
        described(
            "An address for veth0 inside Pods; empty: none.",
            rules=(ValidationRule(f"self == '' || {is_address('self')}", "must be an address"),),
            maxLength=ADDRESS_CHARS_MAX,
        ),
    ] = None
    veth_mtu: Annotated[
        int | None, described("The MTU of the veth pair.", format="int64", minimum=1)
    ] = field(default=None, name="vethMTU")


CLUSTER_RULES: Final = (ValidationRule("has(self.podCIDRType)", "podCIDRType is required"),)


class CoordinatorReport(Struct, rename="camel", frozen=True):
    """``status`` of a SpiderCoordinator."""

    phase: Annotated[
        str, described("Synced, or NotReady while the CIDRs below could not be found out.")
    ]
    reason: Annotated[str | None, described("Why it is NotReady.")] = None
    overlay_pod_cidr: Annotated[
        list[str] | None, described("The Pod CIDRs of the overlay network.")
    ] = field(default=None, name="overlayPodCIDR")
    service_cidr: Annotated[list[str] | None, described("The Service CIDRs of the cluster.")] = (
        field(default=None, name="serviceCIDR")
    )
