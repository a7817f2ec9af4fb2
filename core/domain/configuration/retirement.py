"""Decides how a retirement continues and ends.

Controllers repeat the commands ``AdvanceRetirement`` and ``Reinstate``, and may send them late.
Therefore the commands never change an object that is not retiring, for example a new object of the
same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from core.domain.addresses.address_set import AddressSet
from core.domain.configuration.commands import (
    AdvanceRetirement,
    Command,
    DeletePool,
    DeleteSubnet,
    Reinstate,
    Retirable,
    RetirePool,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import Configuration, readable_addresses
from core.domain.events import Event, PoolDefined, PoolDeleted, SubnetDefined, SubnetDeleted
from core.domain.model import Claim, Pool
from core.domain.subnets.subnet_decisions import decide_subnet
from core.domain.subnets.subnet_model import owner_subnet_name, pools_of_subnet
from core.domain.validation.change_rules import empty_pool_rule
from core.domain.validation.common_rules import ObjectReference, require, unknown_object
from core.errors import Refusal

InUsePolicy = Literal["wait", "refuse"]
"""What a deletion does while the object has claims or pools."""


def deletion_command(kind: Retirable, name: str, policy: InUsePolicy) -> Command:
    """The command that deletes a pool or subnet, or begins its retirement.

    ``wait``: the object retires and is deleted when it is empty. ``refuse``: the object is deleted
    immediately, or the command is refused.
    """
    if policy == "refuse":
        return DeletePool(name) if kind == "pool" else DeleteSubnet(name)
    return RetirePool(name) if kind == "pool" else RetireSubnet(name)


def retiring_addresses(
    configuration: Configuration, command: AdvanceRetirement
) -> AddressSet | None:
    """The addresses that must be free before a pool is deleted; None if there is no pool."""
    pool = configuration.pools.get(command.name) if command.kind == "pool" else None
    return (readable_addresses(pool) or None) if pool else None


def decide_retirement(
    configuration: Configuration,
    command: Reinstate | AdvanceRetirement,
    claimed: Mapping[str, Claim],
) -> tuple[Event, ...]:
    """The events of the command; no events if the object is not retiring. Raises Refused."""
    if isinstance(command, Reinstate):
        return _reinstate(configuration, command)
    if command.kind == "pool":
        return _advance_pool(configuration, command, claimed)
    return _advance_subnet(configuration, command.name)


def _advance_subnet(configuration: Configuration, name: str) -> tuple[Event, ...]:
    subnet = configuration.subnets.get(name)
    if subnet is None or not subnet.retiring:
        return ()
    if not pools_of_subnet(name, configuration.pools):
        return (SubnetDeleted(name),)
    return decide_subnet(configuration, RetireSubnet(name))


def _advance_pool(
    configuration: Configuration, command: AdvanceRetirement, claimed: Mapping[str, Claim]
) -> tuple[Event, ...]:
    pool = configuration.pools.get(command.name)
    if pool is None or not pool.retiring:
        return ()
    subject = ObjectReference("SpiderIPPool", pool.name)
    if any(empty_pool_rule(subject, retiring_addresses(configuration, command), claimed)):
        return ()
    return (PoolDeleted(pool.name),)


def _reinstate(configuration: Configuration, command: Reinstate) -> tuple[Event, ...]:
    if command.kind == "subnet":
        subnet = configuration.subnets.get(command.name)
        if subnet is None:
            raise unknown_object(ObjectReference("SpiderSubnet", command.name))
        return (SubnetDefined(subnet._replace(retiring=False)),) if subnet.retiring else ()
    pool = configuration.pools.get(command.name)
    subject = ObjectReference("SpiderIPPool", command.name)
    if pool is None:
        raise unknown_object(subject)
    if not pool.retiring:
        return ()
    require(_retiring_subnet_rule(subject, pool, configuration))
    return (PoolDefined(pool._replace(retiring=False)),)


def _retiring_subnet_rule(
    subject: ObjectReference, pool: Pool, configuration: Configuration
) -> Iterator[Refusal]:
    subnet = configuration.subnets.get(owner_subnet_name(pool))
    if subnet is not None and subnet.retiring:
        message = f"its subnet {subnet.name} is being retired, with all pools of the subnet"
        remedy = f"cancel the retirement of the subnet: orbctl retire cancel subnet {subnet.name}"
        yield subject.refuse(
            "Forbidden", "retiring-subnet", field="", message=message, remedy=remedy
        )
