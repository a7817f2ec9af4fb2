"""``orbweaver.rdmaMode`` of conf.yml: how the RDMA devices of a node belong to network namespaces.

``shared``: every network namespace has all devices, which is the kernel's default. ``exclusive``:
each device is in one namespace, so that a Pod can have its own (``rdmaIsolation`` of a network).
Empty does not change the mode of the node.
"""

from __future__ import annotations

from typing import Final

from core.errors import BadInput

SHARED: Final = "shared"
EXCLUSIVE: Final = "exclusive"
_KEY: Final = "orbweaver.rdmaMode"


def rdma_mode(text: str) -> str:
    """Check and return the mode; "" does not change the node's mode. Raises BadInput."""
    if text in {"", SHARED, EXCLUSIVE}:
        return text
    raise BadInput(
        f"{text[:40]!r} is not {SHARED} or {EXCLUSIVE}",
        subject=_KEY,
        remedy="leave it empty to keep the node's mode",
    )
