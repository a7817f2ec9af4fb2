"""Decide about a subnet: the events of ApplySubnet, RetireSubnet and DeleteSubnet, or refusals.

Part of ``core.domain.configuration.decisions``. A subnet and the pools that it adopts or retires
change in one transaction; if they do not fit into one, the command is repeated (``wants_more``),
and no rule is violated in between.
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
from core.domain.subnets.subnet_model import POOLS_PER_STEP_MAX, adopt, controlled, same_cidr
from core.domain.validation.changes import immutable_network_rule
from core.domain.validation.normalization import normalise_subnet
from core.domain.validation.pools import cidr_rule
from core.domain.validation.shared import (
    OBJECT_BYTES_MAX,
    ObjectReference,
    family_enabled_rule,
    object_name_rule,
    require,
    size_rule,
    unknown,
    weight,
)
from core.domain.validation.subnets import (
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
    """The events of a command about a subnet. Raises Refused."""
    match command:
        case ApplySubnet(subnet):
            return _apply(configuration, subnet)
        case RetireSubnet(name):
            return _retire(configuration, name)
        case DeleteSubnet(name):
            return _delete(configuration, name)


def wants_more(command: Command, events: tuple[Event, ...]) -> bool:
    """Whether the command touched pools, so that repeating it may touch others."""
    pools = (PoolDefined, PoolRetired)
    is_bounded = isinstance(command, ApplySubnet | RetireSubnet | AdvanceRetirement)
    return is_bounded and any(isinstance(event, pools) for event in events)


def _apply(configuration: Configuration, desired: Subnet) -> tuple[Event, ...]:
    """Create or change, and adopt orphans of its CIDR."""
    subject = ObjectReference("SpiderSubnet", desired.name)
    require(object_name_rule(subject))
    require(size_rule(subject, desired, desired.labels, desired.annotations))
    subnet = normalise_subnet(desired)
    existing = configuration.subnets.get(desired.name)
    if existing is None:
        subnet = subnet._replace(retiring=False)
        _judge_new(configuration, subject, subnet)
        return (SubnetDefined(subnet), *_adoptions(configuration, subnet))
    subnet = subnet._replace(retiring=existing.retiring)
    if subnet == existing:
        return _adoptions(configuration, subnet)
    if existing.retiring:
        require(retiring_subnet_rule(subject, existing, subnet))
    else:
        _judge_changed(configuration, subject, existing, subnet)
    return (SubnetDefined(subnet), *_adoptions(configuration, subnet))


def _retire(configuration: Configuration, name: str) -> tuple[Event, ...]:
    """Retire the subnet, and its pools with it."""
    subnet = _known(configuration, name)
    staying = [pool for pool in controlled(name, configuration.pools) if not pool.retiring]
    going = tuple(PoolRetired(pool.name) for pool in _as_many_as_fit(staying))
    return going if subnet.retiring else (SubnetRetired(name), *going)


def _delete(configuration: Configuration, name: str) -> tuple[Event, ...]:
    """Delete a subnet to which no pool belongs."""
    subnet = _known(configuration, name)
    subject = ObjectReference("SpiderSubnet", name)
    require(no_pools_rule(subject, controlled(subnet.name, configuration.pools)))
    return (SubnetDeleted(name),)


def _judge_new(configuration: Configuration, subject: ObjectReference, subnet: Subnet) -> None:
    """CREATE, one rule after the other; pools before its own items.

    See docs/reference/admission.md, "SpiderSubnet".
    """
    enabled = configuration.enabled(subnet.family)
    require(family_enabled_rule(subject, subnet.family, enabled=enabled))
    require(cidr_rule(subject, subnet))
    require(subnets_apart_rule(subject, subnet, configuration.subnets))
    if configuration.subnets_enabled:
        require(pools_inside_rule(subject, subnet, configuration.pools))
    require(subnet_content_rules(subject, subnet))


def _judge_changed(
    configuration: Configuration, subject: ObjectReference, existing: Subnet, subnet: Subnet
) -> None:
    """UPDATE in docs/reference/admission.md, "SpiderSubnet"."""
    require(immutable_network_rule(subject, existing, subnet))
    enabled = configuration.enabled(subnet.family)
    require(family_enabled_rule(subject, subnet.family, enabled=enabled))
    require(subnet_content_rules(subject, subnet))
    if configuration.subnets_enabled:
        require(shares_kept_rule(subject, subnet, configuration.pools))


def _adoptions(configuration: Configuration, subnet: Subnet) -> tuple[Event, ...]:
    """The pools of its CIDR that are not labelled as its own yet, as they are from now on."""
    if not configuration.subnets_enabled:
        return ()
    subnets = {subnet.name: subnet}
    adopted = (
        after
        for pool in same_cidr(subnet, configuration.pools)
        if (after := adopt(pool, subnets, pool)) != pool
    )
    return tuple(PoolDefined(pool) for pool in _as_many_as_fit(adopted))


def _as_many_as_fit(pools: Iterable[Pool]) -> Iterator[Pool]:
    """The first ones that fit into one transaction beside the subnet itself; at least one."""
    size = 0
    for pool in islice(pools, POOLS_PER_STEP_MAX):
        size += weight(pool)
        if size > OBJECT_BYTES_MAX and size > weight(pool):
            return
        yield pool


def _known(configuration: Configuration, name: str) -> Subnet:
    subnet = configuration.subnets.get(name)
    if subnet is None:
        raise unknown(ObjectReference("SpiderSubnet", name))
    return subnet
