"""``orbweaver.rdmaMode`` of conf.yml: to whom RDMA devices of a node belong.

Empty leaves the node as it is. ``shared``: every network namespace has all devices, as after a
boot. ``exclusive``: each device is in one namespace, so that a Pod can have its own
(``rdmaIsolation`` of a network).
"""

from __future__ import annotations

from typing import Final

from core.errors import BadInput

SHARED: Final = "shared"
EXCLUSIVE: Final = "exclusive"
_KEY: Final = "orbweaver.rdmaMode"


def rdma_mode(written: str) -> str:
    """The mode; "" to leave it as it is. Raises BadInput."""
    if written in {"", SHARED, EXCLUSIVE}:
        return written
    raise BadInput(
        f"{written[:40]!r} is not {SHARED} or {EXCLUSIVE}",
        subject=_KEY,
        remedy="leave it empty to keep the node's mode",
    )
