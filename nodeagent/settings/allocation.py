"""How addresses are chosen and how long they rest: what agents and controllers must agree on."""

from __future__ import annotations

from typing import get_args

from core.allocation.cooldown import COOL_DOWN_S
from core.domain.addresses.choice import AddressOrder
from core.errors import BadInput
from core.process.environment import EnvironmentVariables
from nodeagent.settings.conf_file import COOL_DOWN_S_MAX, OrbweaverConf


def address_order(ours: OrbweaverConf, env: EnvironmentVariables) -> AddressOrder:
    """The order in which a pool's addresses are tried. Raises BadInput."""
    order = env.text("ORBWEAVER_ADDRESS_ORDER", ours.address_order or "spread")
    for known in get_args(AddressOrder):
        if order == known:
            return known  # type: ignore[no-any-return]  # get_args gives Any
    raise BadInput(
        f"address order {order[:64]!r} is unknown",
        subject="orbweaver.addressOrder",
        remedy=f"use {' or '.join(get_args(AddressOrder))}",
    )


def cool_down_s(ours: OrbweaverConf, env: EnvironmentVariables) -> int:
    """How long a released address rests. Raises BadInput.

    Unsaid, nothing rests in sequential order: its users expect the lowest free address at once.
    """
    unsaid = 0 if address_order(ours, env) == "sequential" else COOL_DOWN_S
    said = unsaid if ours.cool_down_seconds is None else ours.cool_down_seconds
    return env.number("ORBWEAVER_COOL_DOWN_SECONDS", said, COOL_DOWN_S_MAX)
