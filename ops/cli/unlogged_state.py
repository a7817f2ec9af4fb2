"""Reads state outside the log: cool-downs and bindings of addresses.

A cool-down is a key with an etcd lease. A binding asks a network provider to bind an endpoint's
addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from core.allocation.bindings import Binding, BindingStore
from core.domain.addresses.ip_address import Address
from core.domain.events import BINDING_WORDS
from core.domain.evolution import EndpointKey
from core.eventstore.kv import Get
from ops.cli.output import duration, moment

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession


class CoolDownMark(NamedTuple):
    """A cool-down. ``holder``: the last holder. ``left_s``: the remaining seconds."""

    holder: str
    left_s: int

    def in_words(self, now_ms: int) -> str:
        """End and effect of the cool-down."""
        until = moment(now_ms + 1000 * self.left_s)
        left = duration(1000 * self.left_s)
        return (
            f"until {until} ({left} left): other Pods get this address only if no other address is"
            f" free; {self.holder} can get it now"
        )


async def read_cool_down(session: ClusterSession, address: Address) -> CoolDownMark | None:
    """Read the address's cool-down, if there is one. Raises StoreUnavailable."""
    key = session.keys.cool_down(*address)
    mark = (await session.store.read([Get(key)])).ranges[0].first
    if mark is None:
        return None
    left_s = await session.store.lease_left_s(mark.lease)
    return CoolDownMark(mark.value.decode(errors="backslashreplace"), left_s)


async def binding_in_words(session: ClusterSession, key: EndpointKey) -> str:
    """The state of the endpoint's binding; "" without a binding."""
    binding = (await BindingStore(session.store, session.keys).find(key)).binding
    return "" if binding is None else _binding_text(binding)


def _binding_text(binding: Binding) -> str:
    why = f" ({binding.why})" if binding.why else ""
    execution = f"; see `orbctl workflow describe {binding.request.workflow_id}`"
    return BINDING_WORDS[binding.state] + why + execution
