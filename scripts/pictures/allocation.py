"""Draws the sequence of an ADD, and the selection of pools."""

from __future__ import annotations

from typing import Final

from scripts.pictures.canvas import Area, Canvas

_LANES: Final = (
    (85, ("container runtime", "containerd, CRI-O")),
    (255, ("main plugin", "macvlan, SR-IOV, ...")),
    (425, ("spiderpool", "CNI executable")),
    (640, ("orbweaver-agent", "one on each node")),
    (865, ("etcd", "log and state")),
)
_RUNTIME, _MAIN, _IPAM, _AGENT, _ETCD = (x for x, _ in _LANES)


def pictures() -> dict[str, Canvas]:
    """The pictures of this module by name."""
    return {"life-of-an-add": _life_of_an_add(), "pool-selection": _pool_selection()}


def _life_of_an_add() -> Canvas:
    canvas = Canvas(
        970,
        760,
        "The life of an ADD",
        "A sequence from left to right: the container runtime calls the main plugin, which creates "
        "the interface and calls spiderpool. Spiderpool sends the request to the agent on the "
        "node. The agent selects pools, chooses an address, and commits the claim to etcd in one "
        "transaction. The result returns the same way. Then the runtime calls coordinator, for "
        "which the agent creates the veth pair, routes and rules.",
    )
    for x, lines in _LANES:
        canvas.box(Area(x - 75, 16, 150, 46), lines, "store" if x == _ETCD else "plain")
        canvas.arrow([(x, 62), (x, 750)], dashed=True, headless=True)
    _call(canvas, 1, 92, _RUNTIME, _MAIN, "ADD eth0")
    canvas.box(Area(_MAIN - 70, 106, 140, 42), ("creates eth0", "in the Pod"), "muted")
    _call(canvas, 2, 176, _MAIN, _IPAM, "ADD, as IPAM")
    _call(canvas, 3, 206, _IPAM, _AGENT, "request frame, unix socket")
    canvas.box(
        Area(_AGENT - 92, 220, 184, 92),
        ("selects and chooses", "facts of the Pod", "candidate pools, in order", "free address"),
        "muted",
    )
    canvas.step(_AGENT - 92, 220, 4)
    _call(canvas, 5, 342, _AGENT, _ETCD, "one transaction")
    canvas.box(
        Area(_ETCD - 96, 352, 192, 76),
        ("event, claims, endpoint", "only if nothing changed", "since the agent read it"),
        "store",
    )
    _call(canvas, 6, 452, _ETCD, _AGENT, "committed")
    canvas.box(Area(_AGENT - 92, 466, 184, 42), ("probes the link", "if detection is on"), "muted")
    _call(canvas, 7, 536, _AGENT, _IPAM, "addresses and routes")
    _call(canvas, 8, 566, _IPAM, _MAIN, "the same")
    canvas.box(Area(_MAIN - 70, 580, 140, 42), ("sets addresses", "and routes"), "muted")
    _call(canvas, 9, 652, _MAIN, _RUNTIME, "result")
    _call(canvas, 10, 688, _RUNTIME, _AGENT, "ADD coordinator")
    canvas.box(
        Area(_AGENT - 92, 702, 184, 42), ("links Pod and node", "veth pair, routes, rules"), "muted"
    )
    return canvas


def _call(canvas: Canvas, number: int, y: float, start: float, end: float, label: str) -> None:
    direction = 1 if end > start else -1
    canvas.arrow([(start + 12 * direction, y), (end - 4 * direction, y)])
    canvas.step(start, y, number)
    if direction > 0:
        canvas.text(start + 18, y - 6, label, "small")
    else:
        canvas.text(start - 18, y - 6, label, "small", "end")


_QUESTIONS: Final = (
    ("Pod annotation subnets or subnet?", "automatic pools of the application", "good"),
    ("Pod annotation ippools?", "its pools, one item for each NIC", "plain"),
    ("Pod annotation ippool?", "its pools, for the NIC of the call", "plain"),
    ("Namespace annotation default-ipv4-ippool?", "its pools", "plain"),
    ("CNI configuration default_ipv4_ippool?", "its pools", "plain"),
    ("any pool with spec.default: true?", "the default pools, by name", "plain"),
)


def _pool_selection() -> Canvas:
    canvas = Canvas(
        960,
        760,
        "Pool selection as a decision tree",
        "Six questions from top to bottom; the first that is answered with yes gives the candidate "
        "pools. If no answer is yes, the ADD fails. Candidates are filtered, "
        "sorted from the most to the least specific, and tried in this order. The first pool with "
        "a free address serves; if all are full, the ADD fails.",
    )
    for number, (question, answer, kind) in enumerate(_QUESTIONS):
        y = 20 + number * 62
        canvas.box(Area(30, y, 330, 42), (question,), "muted")
        canvas.step(30, y, number + 1)
        canvas.box(Area(450, y, 270, 42), (answer,), "good" if kind == "good" else "plain")
        canvas.arrow([(360, y + 21), (446, y + 21)])
        canvas.text(388, y + 15, "yes", "small")
        canvas.arrow([(195, y + 42), (195, y + 59)])
        canvas.text(203, y + 56, "no", "small")
        canvas.arrow([(720, y + 21), (800, y + 21)], headless=True)
    canvas.box(Area(30, 392, 330, 46), ("the ADD fails", "no IPPool available"), "warm")
    canvas.arrow([(800, 41), (800, 471), (560, 471), (560, 486)])
    canvas.text(812, 240, "candidates", "small")
    _filters(canvas)
    return canvas


def _filters(canvas: Canvas) -> None:
    canvas.box(
        Area(400, 490, 320, 78),
        (
            "filter each pool",
            "deletion, disabled, IP version, node, namespace,",
            "Pod affinity, Multus network, master subnet",
        ),
    )
    canvas.arrow([(400, 529), (364, 529)])
    canvas.box(
        Area(30, 506, 330, 46), ("the ADD fails", "all IPPools filtered out, with reasons"), "warm"
    )
    canvas.text(30, 498, "a family has no pool left", "small")
    canvas.arrow([(560, 568), (560, 594)])
    canvas.box(
        Area(400, 598, 320, 46),
        ("sort: the most specific first", "Pod, node, namespace, Multus network"),
    )
    canvas.arrow([(560, 644), (560, 670)])
    canvas.box(
        Area(400, 674, 320, 62),
        (
            "try the pools in this order",
            "all addresses of the request in one",
            "transaction, or none",
        ),
        "store",
    )
    canvas.arrow([(720, 705), (776, 705)])
    canvas.box(Area(780, 682, 150, 46), ("success", "one address a family"), "good")
    canvas.arrow([(400, 705), (364, 705)])
    canvas.box(Area(30, 682, 330, 46), ("the ADD fails", "all IP addresses used out"), "warm")
    canvas.text(30, 674, "every candidate is full", "small")
