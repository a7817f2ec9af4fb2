"""``orbweaver.rdmaMode`` of conf.yml: whether network namespaces share the RDMA devices of a node.

``shared``: every namespace has all devices, the kernel's default. ``exclusive``: each device is in
one namespace, so that a Pod can have its own device. "": the mode is not changed.
"""

from __future__ import annotations

from typing import Final

from core.errors import BadInput

SHARED_MODE: Final = "shared"
EXCLUSIVE_MODE: Final = "exclusive"
_KEY: Final = "orbweaver.rdmaMode"


def rdma_mode(text: str) -> str:
    """Check and return the mode. Raises BadInput."""
    if text in {"", SHARED_MODE, EXCLUSIVE_MODE}:
        return text
    raise BadInput(
        f"{_KEY} {text[:40]!r} is neither {SHARED_MODE} nor {EXCLUSIVE_MODE}",
        subject=_KEY,
        remedy="use one of the two, or leave it empty to keep the mode of the node",
    )
