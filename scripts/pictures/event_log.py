"""Draws the event log and its projections."""

from __future__ import annotations

from typing import Final

from scripts.pictures.canvas import Area, Canvas

_READERS: Final = (
    ("configuration view", "in every agent: pools,", "reservations, quarantine"),
    ("ledger", "in the controller that leads:", "reports, metrics, reclaim"),
    ("history and as-of", "orbctl: who held an address,", "what was true at a time"),
    ("verify", "folds the log and compares", "it with the state keys"),
)


def pictures() -> dict[str, Canvas]:
    """The pictures of this module by name."""
    return {"event-log": _event_log()}


def _event_log() -> Canvas:
    canvas = Canvas(
        960,
        620,
        "The event log and its projections",
        "Agents, the controller and orbctl are writers. Each appends segments of events to the log "
        "in etcd; the same transaction writes the state keys. Projections follow the log: the "
        "configuration view of agents, the ledger of the leading controller, history and as-of, "
        "and verify. Old segments move to archive files, which history and verify read too.",
    )
    for number, (name, events) in enumerate(
        (
            ("agent of node-a", "claims, releases"),
            ("agent of node-b", "claims, releases"),
            ("controller", "pools, reclaim"),
            ("orbctl", "operators"),
        )
    ):
        x = 40 + number * 226
        canvas.box(Area(x, 20, 200, 46), (name, events))
        canvas.arrow([(x + 100, 66), (x + 100, 116)])
    canvas.text(150, 96, "writers append segments", "small")
    canvas.frame(Area(24, 118, 912, 214), "etcd", "store")
    for number, (writer, revision) in enumerate(
        (("node-a", 118), ("node-b", 119), ("controller", 121), ("node-a", 124), ("orbctl", 125))
    ):
        x = 44 + number * 132
        canvas.box(Area(x, 154, 116, 46), (writer, f"revision {revision}"), "store")
        if number:
            canvas.arrow([(x - 16, 177), (x - 2, 177)])
    canvas.text(716, 174, "log: never changed,", "small")
    canvas.text(716, 191, "ordered by revision", "small")
    for number, key in enumerate(("ip/10.6.0.17", "endpoint/shop/web-0", "pool/lan")):
        canvas.box(Area(44 + number * 214, 254, 196, 40), (f"`{key}`",), "plain")
    canvas.text(716, 271, "state keys: written in", "small")
    canvas.text(716, 288, "the same transaction", "small")
    canvas.arrow([(498, 200), (498, 228), (142, 228), (142, 250)])
    canvas.arrow([(498, 228), (356, 228), (356, 250)])
    canvas.text(506, 222, "one transaction", "small")
    for number, (name, first, second) in enumerate(_READERS):
        x = 40 + number * 226
        canvas.arrow([(x + 100, 332), (x + 100, 396)])
        canvas.box(Area(x, 400, 200, 66), (name, first, second))
    canvas.text(150, 368, "projections follow the log", "small")
    canvas.box(
        Area(492, 530, 426, 66),
        (
            "archive",
            "sealed files with a hash chain and an index;",
            "they leave etcd when the live log is long",
        ),
        "muted",
    )
    canvas.arrow([(592, 526), (592, 470)])
    canvas.arrow([(818, 526), (818, 470)])
    canvas.arrow([(936, 260), (948, 260), (948, 563), (922, 563)])
    canvas.text(478, 560, "old segments move here", "small", "end")
    return canvas
