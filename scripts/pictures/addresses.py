"""Draws the states of an address."""

from __future__ import annotations

from scripts.pictures.canvas import Area, Canvas


def pictures() -> dict[str, Canvas]:
    """The pictures of this module by name."""
    return {"life-of-an-address": _life_of_an_address()}


def _life_of_an_address() -> Canvas:
    canvas = Canvas(
        960,
        520,
        "The life of an address",
        "States of an address in a pool. An ADD claims a free address. A DEL, a reclaim "
        "on evidence or an operator releases it; it cools down for 30 seconds and is free again. "
        "An address that a conflicting host uses goes into quarantine, and returns after three "
        "silent probes or by hand. Reserved addresses and addresses of a retiring pool are not "
        "assigned.",
    )
    canvas.box(Area(60, 210, 170, 64), ("free", "in a pool, assignable"), "good")
    canvas.box(Area(400, 210, 190, 64), ("claimed", "one holder, one event"), "store")
    canvas.box(Area(400, 400, 190, 64), ("cooling down", "30 s, an etcd lease"), "plain")
    canvas.box(Area(768, 210, 172, 64), ("kept by name", "StatefulSet replica, VM"), "store")
    canvas.box(Area(400, 60, 190, 64), ("quarantined", "a conflicting host uses it"), "warm")
    canvas.box(Area(60, 60, 170, 64), ("reserved", "SpiderReservedIP"), "muted")
    canvas.box(Area(60, 400, 170, 64), ("pool retires", "no new claims"), "muted")
    canvas.arrow([(230, 242), (396, 242)])
    canvas.text(355, 258, "ADD", "small", "middle")
    canvas.arrow([(495, 274), (495, 396)])
    canvas.text(505, 318, "DEL, or CNI GC", "small")
    canvas.text(505, 336, "reclaim, on evidence", "small")
    canvas.text(505, 354, "orbctl release", "small")
    canvas.arrow([(400, 420), (290, 420), (290, 262), (234, 262)])
    canvas.text(300, 412, "cool-down ends", "small")
    canvas.arrow([(590, 232), (764, 232)])
    canvas.text(679, 224, "DEL, still wanted", "small", "middle")
    canvas.arrow([(768, 256), (594, 256)])
    canvas.text(679, 274, "next Pod of the name", "small", "middle")
    canvas.arrow([(854, 274), (854, 432), (594, 432)])
    canvas.text(846, 320, "no longer wanted:", "small", "end")
    canvas.text(846, 338, "scaled down, deleted", "small", "end")
    canvas.arrow([(495, 210), (495, 128)])
    canvas.text(505, 160, "a probe finds a conflict;", "small")
    canvas.text(505, 178, "the Pod gets another address", "small")
    canvas.arrow([(400, 104), (310, 104), (310, 224), (234, 224)])
    canvas.text(318, 150, "3 silent", "small")
    canvas.text(318, 166, "probes", "small")
    canvas.text(318, 182, "or by hand", "small")
    canvas.arrow([(145, 210), (145, 128)], two_heads=True)
    canvas.text(155, 172, "apply, delete", "small")
    canvas.arrow([(145, 274), (145, 396)], two_heads=True)
    canvas.text(155, 330, "retire, cancel", "small")
    canvas.text(145, 486, "empty: the pool is deleted", "small", "middle")
    return canvas
