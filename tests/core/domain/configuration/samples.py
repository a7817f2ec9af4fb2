"""Sample pools and helpers for decisions on configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyPool, Command
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import PoolDefined, ReservationDefined
from core.domain.model import Claim, Pool, Reservation
from core.errors import Refusal, Refused

BLUE_POOL = Pool("blue", V4, "10.7.0.0/16", ("10.7.0.10-10.7.0.20",), gateway="10.7.0.1")
GREEN_POOL = Pool("green", V6, "fd00:7::/64", ("fd00:7::10-fd00:7::20",), gateway="fd00:7::1")
EMPTY_CONFIGURATION = Configuration({}, {}, {}, {})


def after_command(configuration: Configuration, command: Command) -> Configuration:
    for event in decide(configuration, command, claimed={}):
        match event:
            case PoolDefined(pool):
                pools = {**configuration.pools, pool.name: pool}
                configuration = configuration._replace(pools=pools)
            case ReservationDefined(reservation):
                reservations = {**configuration.reservations, reservation.name: reservation}
                configuration = configuration._replace(reservations=reservations)
            case _:
                raise AssertionError(event)
    return configuration


def configuration_with(*pools: Pool) -> Configuration:
    configuration = EMPTY_CONFIGURATION
    for pool in pools:
        configuration = after_command(configuration, ApplyPool(pool))
    return configuration


def with_retiring_pool(configuration: Configuration, name: str) -> Configuration:
    pool = configuration.pools[name]._replace(retiring=True)
    return configuration._replace(pools={**configuration.pools, name: pool})


def claims(addresses: Iterable[str], pool: str = "blue") -> dict[str, Claim]:
    """A claim per address, of the Pods ``shop/web-0``, ``shop/web-1``, ..."""
    return {
        address: Claim(
            pool=pool,
            holder=f"pod/uid-{index}",
            namespace="shop",
            pod=f"web-{index}",
            event=f"event-{index}",
        )
        for index, address in enumerate(addresses)
    }


def refusals(
    configuration: Configuration, command: Command, claimed: Mapping[str, Claim] | None = None
) -> tuple[Refusal, ...]:
    try:
        decide(configuration, command, claimed=claimed or {})
    except Refused as error:
        return error.refusals
    return ()


def kinds_and_fields(
    configuration: Configuration, command: Command, claimed: Mapping[str, Claim] | None = None
) -> list[tuple[str, str]]:
    return [(refusal.kind, refusal.field) for refusal in refusals(configuration, command, claimed)]


def reservation(*ips: str, name: str = "kept") -> Reservation:
    return Reservation(name, V4, ips)
