"""Sample subnets and pools, and a configuration that commands change."""

from __future__ import annotations

from collections.abc import Mapping

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import ApplyPool, ApplyReservation, ApplySubnet, Command
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import Cause, Event, Recorded
from core.domain.evolution import Ledger
from core.domain.model import Claim, Pool, Reservation, Route, Subnet
from core.errors import Refusal, Refused

SUBNET4 = Subnet(
    "net",
    V4,
    "10.7.0.0/16",
    ("10.7.0.10-10.7.0.99",),
    gateway="10.7.0.1",
    routes=(Route("10.0.0.0/8", "10.7.0.2"),),
)
SUBNET6 = Subnet("net6", V6, "fd00:7::/64", ("fd00:7::10-fd00:7::ffff",), gateway="fd00:7::1")
BLUE_POOL = Pool("blue", V4, "10.7.0.0/16", ("10.7.0.10-10.7.0.20",))


class ConfigurationHarness:
    """A configuration in memory that commands change.

    A subnet, a pool or a reservation stands for the command that applies the object.
    """

    def __init__(self, *commands: Command | Subnet | Pool | Reservation) -> None:
        self.ledger = Ledger()
        self.apply(*commands)

    @property
    def configuration(self) -> Configuration:
        return Configuration.of(self.ledger)

    def apply(
        self,
        *commands: Command | Subnet | Pool | Reservation,
        claimed: Mapping[str, Claim] | None = None,
    ) -> list[Event]:
        """Apply the commands; return all events. Raises Refused."""
        events: list[Event] = []
        for command in commands:
            for event in decide(self.configuration, as_command(command), claimed=claimed or {}):
                position = self.ledger.position + 1
                self.ledger.apply(
                    Recorded(
                        position=position,
                        index_in_segment=0,
                        event_id=f"e{position}",
                        recorded_at_ms=0,
                        writer="t",
                        cause=Cause("t"),
                        event=event,
                    )
                )
                events.append(event)
        return events

    def refusals(
        self,
        command: Command | Subnet | Pool | Reservation,
        claimed: Mapping[str, Claim] | None = None,
    ) -> list[Refusal]:
        """The refusals of a command; the configuration does not change."""
        try:
            decide(self.configuration, as_command(command), claimed=claimed or {})
        except Refused as error:
            return list(error.refusals)
        return []

    def refusal_summaries(
        self, command: Command | Subnet | Pool | Reservation
    ) -> list[tuple[str, str, str]]:
        """(kind, field, rule) of each refusal."""
        return [(refusal.kind, refusal.field, refusal.rule) for refusal in self.refusals(command)]


def as_command(item: Command | Subnet | Pool | Reservation) -> Command:
    match item:
        case Subnet():
            return ApplySubnet(item)
        case Pool():
            return ApplyPool(item)
        case Reservation():
            return ApplyReservation(item)
        case _:
            return item


def claims_of_other_pods(*addresses: str, pool: str = "blue") -> dict[str, Claim]:
    """One claim for each address, each of a different Pod."""
    return {
        address: Claim(
            pool=pool,
            holder=f"pod/u-{index}",
            namespace="shop",
            pod=f"web-{index}",
            event=f"e-{index}",
        )
        for index, address in enumerate(addresses)
    }
