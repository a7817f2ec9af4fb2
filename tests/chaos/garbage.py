"""Garbage: keys and values that a fault writes to etcd, and that the product must tolerate.

A kind of garbage is ``<key kind>/<value kind>``. An orphaned key belongs to no object. A fault does
not change these keys:

- segments of the log, because the checker needs the true log
- heads of running writers, because a changed head fences the writer
- existing claims, because a release must name the revision of the claim
"""

from __future__ import annotations

from typing import Final

import msgspec

KEYS_ROOT: Final = "/orbweaver/v1/default"

ORPHANED_KEYS: Final = {
    "pool": "pool/ghost",
    "subnet": "subnet/ghost",
    "reservation": "reservation/ghost",
    "record": "record/Pod/shop/ghost",
    "record-path": "record/oops",
    "claim": "ip/4/000000000000000000000000c6336401",
    "claim-path": "ip/4/nonsense",
    "rest": "rest/4/000000000000000000000000c6336402",
    "quarantine": "quarantine/4/000000000000000000000000c6336403",
    "endpoint": "endpoint/shop/ghost",
    "guard": "guard/ghost/4",
    "head": "head/ghost",
    "view-application": "view/application/ghost",
    "need": "need/Deployment/shop/ghost",
    "binding": "binding/shop/ghost",
    "meta": "meta/ghost",
    "lease": "lease/ghost",
    "unknown": "ghost/ghost",
    "inbox": "workflow/default/wake/inbox/03/ghost/00000000000000000000000000000001",
    "mail": "workflow/default/wake/mail/03/ghost",
    "owner": "workflow/default/wake/owner/ff",
    "worker": "workflow/default/wake/worker/ghost",
    "open": "workflow/default/open/03/ghost",
    "closed": "workflow/default/closed/03/ghost/00000000000000000000000000000001",
    "history": "workflow/default/event/03/00000000000000000000000000000001/00000001",
    "attempt": "workflow/default/attempt/03/00000000000000000000000000000001/00000002",
    "reply": "workflow/default/reply/00000000000000000000000000000001",
    "commit": "workflow/default/commit/ghost",
}
"""Key kind -> key."""

OVERWRITTEN_KEYS: Final = {
    "some-open": "workflow/default/open/",
    "some-history": "workflow/default/event/",
    "some-attempt": "workflow/default/attempt/",
    "some-worker": "workflow/default/wake/worker/",
    "some-endpoint": "endpoint/",
    "some-rest": "rest/",
    "some-pool": "pool/",
    "some-guard": "guard/",
    "some-lease": "lease/",
    "some-owner": "workflow/default/wake/owner/",
    "some-closed": "workflow/default/closed/",
}
"""Key kind -> prefix. The first key with the prefix is overwritten."""

VALID_COPY: Final = "copy"
"""This value kind copies the value of an existing key of the same key kind."""

GARBAGE_VALUES: Final = {
    "noise": b"\xff\xfe\x00garbage",
    "empty": b"",
    "text": "caf\u00e9".encode("latin-1"),
    "newer": msgspec.msgpack.encode([99, ["from", "the", "future"]]),
    "odd": msgspec.msgpack.encode([1, {"name": b"\xff", "ips": ["not-an-address"]}]),
    "short": msgspec.msgpack.encode([1]),
}
GARBAGE_KINDS: Final = (
    *(f"{key}/{value}" for key in (*ORPHANED_KEYS, *OVERWRITTEN_KEYS) for value in GARBAGE_VALUES),
    *(f"{key}/{VALID_COPY}" for key in ORPHANED_KEYS),
)
