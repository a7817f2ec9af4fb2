"""Draws the datapath modes: the interfaces of a Pod, and the paths of packets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scripts.pictures.canvas import Area, Canvas, Kind, Style

_NOTES_Y = 254
_NOTE_PX = 20


class _Mode(NamedTuple):
    """The texts of one mode's picture, which has the columns Pod, node and outside.

    The first row shows ``upper``, ``master`` and ``outside``; the second row shows ``lower``,
    ``host_veth`` and ``lower_outside``. ``pod_rules``, ``node_rules`` and ``outside_notes`` are
    below the rows.
    """

    title: str
    description: str
    upper: Sequence[str]
    lower: Sequence[str]
    master: Sequence[str]
    host_veth: Sequence[str]
    outside: Sequence[str]
    lower_outside: Sequence[str]
    pod_rules: Sequence[str]
    node_rules: Sequence[str]
    outside_notes: Sequence[str]


def pictures() -> dict[str, Canvas]:
    """The pictures of this module by name."""
    modes = {name: _mode(mode) for name, mode in _MODES.items()}
    return modes | {"datapath-clusterip": _cluster_ip()}


def _mode(mode: _Mode) -> Canvas:
    notes = max(len(mode.pod_rules), len(mode.node_rules), len(mode.outside_notes))
    height = _NOTES_Y + notes * _NOTE_PX + 16
    canvas = Canvas(960, height, mode.title, mode.description)
    canvas.frame(Area(20, 16, 290, height - 32), "Pod's network namespace")
    canvas.frame(Area(340, 16, 330, height - 32), "node")
    canvas.frame(Area(700, 16, 240, height - 32), "outside")
    _row(canvas, 58, mode.upper, mode.master, mode.outside, "store")
    _row(canvas, 156, mode.lower, mode.host_veth, mode.lower_outside, "good")
    _notes(canvas, 44, mode.pod_rules)
    _notes(canvas, 364, mode.node_rules)
    _notes(canvas, 724, mode.outside_notes)
    return canvas


def _row(
    canvas: Canvas,
    y: float,
    pod: Sequence[str],
    node: Sequence[str],
    outside: Sequence[str],
    kind: Kind,
) -> None:
    canvas.box(Area(44, y, 242, 64), pod, kind)
    canvas.box(Area(364, y, 282, 64), node, kind)
    canvas.arrow([(290, y + 32), (360, y + 32)], two_heads=True)
    if outside:
        canvas.box(Area(724, y, 192, 64), outside, kind)
        canvas.arrow([(650, y + 32), (720, y + 32)], two_heads=True)


def _notes(canvas: Canvas, x: float, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        style: Style = "code" if line.startswith("`") else "small"
        canvas.text(x, _NOTES_Y + number * _NOTE_PX, line.strip("`"), style)


_UNDERLAY_POD = (
    "`default via g dev eth0`",
    "`n dev veth0, permanent neighbour`",
    "`S, O via n dev veth0`",
    "`rule 1000: fwmark 1 lookup 100`",
    "`table 100: default via n dev veth0`",
)
_UNDERLAY_NODE = (
    "`rule 1000: all lookup 500`",
    "`table 500: P dev veth<id>`",
    "`P: permanent neighbour on veth<id>`",
    "",
    "kubelet, kube-proxy and forwarding reach the",
    "Pod by the host veth, not by the network.",
)
_LEGEND = (
    "P  the Pod's address",
    "g  the pool's gateway",
    "n  the node's address",
    "S  the Services' networks",
    "O  the overlay's Pods",
)
_VETH_POD = ("veth0", "one end of a veth pair", "to and from the node")
_VETH_NODE = ("veth<id>", "the host veth", "kubelet, Services, node")

_MODES = {
    "datapath-underlay": _Mode(
        title="Underlay with macvlan",
        description=(
            "The Pod has two interfaces: eth0 is a macvlan on the node's NIC ens192 and carries "
            "traffic of the datacentre network; veth0 is one end of a veth pair, whose other "
            "end is on the node, and carries traffic of the node and of Services. Routes in the "
            "Pod lead to Services over veth0; table 500 of the node leads to the Pod's address "
            "over the host veth."
        ),
        upper=("eth0", "macvlan, address P", "its own MAC address"),
        lower=_VETH_POD,
        master=("ens192", "master interface", "macvlan children do not reach it"),
        host_veth=_VETH_NODE,
        outside=("switch, router g", "see the Pod's address", "and its MAC address"),
        lower_outside=(),
        pod_rules=_UNDERLAY_POD,
        node_rules=_UNDERLAY_NODE,
        outside_notes=_LEGEND,
    ),
    "datapath-ipvlan": _Mode(
        title="Underlay with ipvlan",
        description=(
            "As underlay with macvlan, but eth0 is an ipvlan: it has the MAC address of its "
            "master. The switch learns only the MAC addresses of nodes, which clouds and "
            "hypervisors often demand."
        ),
        upper=("eth0", "ipvlan, address P", "MAC address of ens192"),
        lower=_VETH_POD,
        master=("ens192", "master interface", "sorts packets by IP address"),
        host_veth=_VETH_NODE,
        outside=("switch, router g", "knows only the nodes'", "MAC addresses"),
        lower_outside=(),
        pod_rules=_UNDERLAY_POD,
        node_rules=_UNDERLAY_NODE,
        outside_notes=(*_LEGEND, "", "For clouds and hypervisors", "that drop unknown MACs."),
    ),
    "datapath-sriov": _Mode(
        title="Underlay with SR-IOV",
        description=(
            "As underlay with macvlan, but eth0 is a virtual function of the card, which is "
            "moved into the Pod. The card's own switch connects it with the network; the node's "
            "kernel does not see these packets."
        ),
        upper=("eth0", "virtual function, address P", "moved into the Pod"),
        lower=_VETH_POD,
        master=("ens192", "physical function", "the switch is in the card"),
        host_veth=_VETH_NODE,
        outside=("switch, router g", "see the Pod's address", "and its MAC address"),
        lower_outside=(),
        pod_rules=_UNDERLAY_POD,
        node_rules=(
            *_UNDERLAY_NODE[:3],
            "",
            "A device plugin hands out the functions;",
            "with match_master_subnet a pool's subnet",
            "must contain an address of ens192.",
        ),
        outside_notes=(*_LEGEND, "", "RDMA over Ethernet uses", "the same path."),
    ),
    "datapath-ovs": _Mode(
        title="Underlay with Open vSwitch",
        description=(
            "As underlay with macvlan, but eth0 is one end of a veth pair whose other end is a "
            "port of an Open vSwitch bridge on the node. The bridge has the node's NIC as "
            "uplink and sets the VLAN of the port."
        ),
        upper=("eth0", "made by the ovs plugin", "address P"),
        lower=_VETH_POD,
        master=("OVS bridge", "a port for each Pod, with its VLAN", "ens192 is the uplink"),
        host_veth=_VETH_NODE,
        outside=("switch, router g", "VLAN or trunk", "of the network"),
        lower_outside=(),
        pod_rules=_UNDERLAY_POD,
        node_rules=(
            *_UNDERLAY_NODE[:3],
            "",
            "The SpiderMultusConfig names bridge, vlan",
            "and trunk. Orbweaver does not configure",
            "the bridge.",
        ),
        outside_notes=_LEGEND,
    ),
    "datapath-overlay": _Mode(
        title="Overlay with Calico or Cilium, and a further NIC",
        description=(
            "The Pod's eth0 belongs to Calico or Cilium and is a veth to the node already. net1 "
            "is a macvlan on the datacentre network. Packets from the address of net1 leave by "
            "table 101 over net1; Services and the node are reached over eth0."
        ),
        upper=("net1", "macvlan, address P", "from a pool of Orbweaver"),
        lower=("eth0", "veth, address C", "from Calico or Cilium"),
        master=("ens192", "master interface"),
        host_veth=("cali<id> or lxc<id>", "the host veth of the overlay"),
        outside=("switch, router g", "see the address P"),
        lower_outside=("overlay", "tunnels or routes", "between the nodes"),
        pod_rules=(
            "`default via 169.254.1.1 dev eth0`",
            "`n, S, O dev eth0`",
            "`rule: from P lookup 101`",
            "`table 101: default via g dev net1`",
            "`rule: from C lookup 100`",
            "`table 100: default dev eth0`",
        ),
        node_rules=(
            "`rule 1000: all lookup 500`",
            "`table 500: P dev cali<id>`",
            "",
            "No veth pair is added: eth0 is the way to",
            "the node already. A reply to P leaves by net1,",
            "a reply to C by eth0.",
        ),
        outside_notes=("C  the Pod's overlay address", *_LEGEND),
    ),
}


def _cluster_ip() -> Canvas:
    canvas = Canvas(
        960,
        400,
        "ClusterIP in the Pod's socket",
        "A process of the Pod connects to a Service's ClusterIP. A program in the kernel replaces "
        "the address by that of a backend before there is a packet. The packet leaves by eth0 for "
        "the backend. The agent writes Services and backends into the kernel's maps. getpeername "
        "still returns the ClusterIP.",
    )
    canvas.frame(Area(20, 16, 290, 368), "process in the Pod")
    canvas.frame(Area(340, 16, 330, 368), "kernel of the node")
    canvas.frame(Area(700, 16, 240, 368), "outside the Pod")
    canvas.box(Area(44, 58, 242, 46), ("connect(S:80)", "S is a ClusterIP"), "good")
    canvas.box(
        Area(364, 58, 282, 46), ("program connect4", "attached to the Pods' control group"), "good"
    )
    canvas.arrow([(286, 81), (360, 81)])
    canvas.step(324, 62, 1)
    canvas.box(
        Area(364, 156, 282, 66),
        ("map services", "`S:80/TCP: group 7, 2 backends`", "`S:53/UDP: group 9, 3 backends`"),
        "store",
    )
    canvas.box(
        Area(364, 262, 282, 66), ("map backends", "`7,0: B1:8080`", "`7,1: B2:8080`"), "store"
    )
    canvas.arrow([(505, 104), (505, 152)], two_heads=True)
    canvas.step(485, 128, 2)
    canvas.arrow([(505, 222), (505, 258)])
    canvas.box(
        Area(44, 184, 242, 64),
        ("packet to B1:8080", "the ClusterIP is in no packet,", "no connection tracking"),
        "plain",
    )
    canvas.arrow([(364, 92), (326, 92), (326, 206), (290, 206)])
    canvas.step(326, 150, 3)
    canvas.box(
        Area(44, 300, 242, 46), ("getpeername()", "returns S:80, from map reversed"), "plain"
    )
    canvas.arrow([(165, 248), (165, 296)])
    canvas.box(
        Area(724, 58, 192, 64), ("backend B1", "reached over eth0,", "as any other host"), "plain"
    )
    canvas.arrow([(286, 232), (312, 232), (312, 360), (684, 360), (684, 90), (720, 90)])
    canvas.box(
        Area(724, 190, 192, 82),
        ("orbweaver-agent", "watches Services and", "EndpointSlices, writes", "what changed"),
        "plain",
    )
    canvas.arrow([(724, 214), (650, 200)])
    canvas.arrow([(724, 250), (650, 286)])
    canvas.step(697, 232, 4)
    return canvas
