"""Decide the events of the commands ApplySubnet, RetireSubnet and DeleteSubnet.

One transaction changes the subnet and a limited number of its pools. If more pools must change, the
caller repeats the command (``must_repeat``). No rule is violated between the transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from core.domain.configuration.commands import (
    AdvanceRetirement,
    ApplySubnet,
    Command,
    DeleteSubnet,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import Configuration
from core.domain.events import (
    Event,
    PoolDefined,
    PoolRetired,
    SubnetDefined,
    SubnetDeleted,
    SubnetRetired,
)
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import (
    POOLS_PER_TRANSACTION_MAX,
    adopt,
    pools_of_same_cidr,
    pools_of_subnet,
)
from core.domain.validation.change_rules import immutable_network_rule
from core.domain.validation.common_rules import (
    OBJECT_BYTES_MAX,
    ObjectReference,
    encoded_size_max,
    family_enabled_rule,
    object_name_rule,
    require,
    size_rule,
    unknown_object,
)
from core.domain.validation.normalization import normalise_network
from core.domain.validation.pool_rules import cidr_rule
from core.domain.validation.subnet_rules import (
    no_pools_rule,
    pools_inside_rule,
    retiring_subnet_rule,
    shares_kept_rule,
    subnet_content_rules,
    subnets_apart_rule,
)


def decide_subnet(
    configuration: Configuration, command: ApplySubnet | RetireSubnet | DeleteSubnet
) -> tuple[Event, ...]:
    """Decide the events of a command about a subnet. Raises Refused."""
    match command:
        case ApplySubnet(subnet):
            return _apply(configuration, subnet)
        case RetireSubnet(name):
            return _retire(configuration, name)
        case DeleteSubnet(name):
            return _delete(configuration, name)


def must_repeat(command: Command, events: tuple[Event, ...]) -> bool:
    """Whether the caller must repeat the command, because more pools may have to change."""
    pools = (PoolDefined, PoolRetired)
    # Each command changes only as many pools as fit into one transaction.
    is_partial = isinstance(command, ApplySubnet | RetireSubnet | AdvanceRetirement)
    return is_partial and any(isinstance(event, pools) for event in events)


def _apply(configuration: Configuration, desired: Subnet) -> tuple[Event, ...]:
    subject = ObjectReference("SpiderSubnet", desired.name)
    require(object_name_rule(subject))
    require(size_rule(subject, desired, desired.labels, desired.annotations))
    subnet = normalise_network(desired)
    existing = configuration.subnets.get(desired.name)
    if existing is None:
        subnet = subnet._replace(retiring=False)
        _check_new(configuration, subject, subnet)
        return (SubnetDefined(subnet), *_adoptions(configuration, subnet))
    subnet = subnet._replace(retiring=existing.retiring)
    if subnet == existing:
        return _adoptions(configuration, subnet)
    if existing.retiring:
        require(retiring_subnet_rule(subject, existing, subnet))
    else:
        _check_changed(configuration, subject, existing, subnet)
    return (SubnetDefined(subnet), *_adoptions(configuration, subnet))


def _retire(configuration: Configuration, name: str) -> tuple[Event, ...]:
    subnet = _existing(configuration, name)
    serving_pools = [
        pool for pool in pools_of_subnet(name, configuration.pools) if not pool.retiring
    ]
    pool_events = tuple(PoolRetired(pool.name) for pool in _as_many_as_fit(serving_pools))
    return pool_events if subnet.retiring else (SubnetRetired(name), *pool_events)


def _delete(configuration: Configuration, name: str) -> tuple[Event, ...]:
    subnet = _existing(configuration, name)
    subject = ObjectReference("SpiderSubnet", name)
    require(no_pools_rule(subject, pools_of_subnet(subnet.name, configuration.pools)))
    return (SubnetDeleted(name),)


def _check_new(configuration: Configuration, subject: ObjectReference, subnet: Subnet) -> None:
    """Apply the rules of docs/reference/admission.md, "SpiderSubnet", CREATE.

    Raises Refused with the first refusal.
    """
    enabled = configuration.enabled(subnet.family)
    require(family_enabled_rule(subject, subnet.family, enabled=enabled))
    require(cidr_rule(subject, subnet))
    require(subnets_apart_rule(subject, subnet, configuration.subnets))
    if configuration.subnets_enabled:
        require(pools_inside_rule(subject, subnet, configuration.pools))
    require(subnet_content_rules(subject, subnet))


def _check_changed(
    configuration: Configuration, subject: ObjectReference, existing: Subnet, subnet: Subnet
) -> None:
    """Apply the rules of docs/reference/admission.md, "SpiderSubnet", UPDATE. Raises Refused."""
    require(immutable_network_rule(subject, existing, subnet))
    enabled = configuration.enabled(subnet.family)
    require(family_enabled_rule(subject, subnet.family, enabled=enabled))
    require(subnet_content_rules(subject, subnet))
    if configuration.subnets_enabled:
        require(shares_kept_rule(subject, subnet, configuration.pools))


def _adoptions(configuration: Configuration, subnet: Subnet) -> tuple[Event, ...]:
    if not configuration.subnets_enabled:
        return ()
    subnets = {subnet.name: subnet}
    adopted_pools = (
        after
        for pool in pools_of_same_cidr(subnet, configuration.pools)
        if (after := adopt(pool, subnets, pool)) != pool
    )
    return tuple(PoolDefined(pool) for pool in _as_many_as_fit(adopted_pools))


def _as_many_as_fit(pools: Iterable[Pool]) -> Iterator[Pool]:
    """The first pools that fit into one transaction, but at least one pool."""
    size = 0
    for pool in islice(pools, POOLS_PER_TRANSACTION_MAX):
        size += encoded_size_max(pool)
        if size > OBJECT_BYTES_MAX and size > encoded_size_max(pool):
            return
        yield pool


def _existing(configuration: Configuration, name: str) -> Subnet:
    subnet = configuration.subnets.get(name)
    if subnet is None:
        raise unknown_object(ObjectReference("SpiderSubnet", name))
    return subnet
