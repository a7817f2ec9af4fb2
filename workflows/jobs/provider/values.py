"""What is said to the workflow and what it answers, as values. Pure."""

from __future__ import annotations

from typing import NamedTuple

from core.allocation.bindings import BindingRequest
from core.domain.events import ReleaseReason


class ProviderRelease(NamedTuple):
    """What shall be given back, and why."""

    order: BindingRequest
    reason: ReleaseReason
    evidence: str


class ProviderBinding(NamedTuple):
    """What the provider chose for one address; "" and 0: nothing."""

    address: str
    mac: str = ""
    vlan: int = 0


class ProviderResult(NamedTuple):
    """``bound`` after a bind; empty after giving back, which ``why`` tells of."""

    bound: tuple[ProviderBinding, ...]
    why: str = ""
