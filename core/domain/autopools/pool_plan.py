"""Plans one automatic pool: creates the pool, adds or removes addresses, changes labels.

Only the pool records which addresses it has, so that no address can leak. A repeated plan
changes nothing. Two plans cannot take the same address, because the transaction has guards.

See docs/reference/automatic-pool-rules.md, "Planning".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.autopools.pool_names import (
    IP_NUMBER,
    OWNER_UID,
    PoolScope,
    affinity,
    is_reclaimable,
    owner_labels,
    pool_name,
    scope_labels,
)
from core.domain.autopools.pool_size import IpNumber
from core.domain.configuration.configuration_state import (
    Configuration,
    pool_addresses,
    reserved_addresses,
)
from core.domain.model import Claim, Pool, Subnet
from core.domain.subnets.subnet_model import addresses_of_pools, pools_of_same_cidr
from core.domain.validation.common_rules import ObjectReference
from core.domain.validation.normalization import normalise_network
from core.errors import RefusalKind, Refused

NAMES_TRIED_MAX: Final = 16

INSUFFICIENT_SUBNET: Final = "insufficient-subnet"
SCALE_DOWN: Final = "scale-down"
RETRIED_RULES: Final = frozenset({INSUFFICIENT_SUBNET, SCALE_DOWN})
"""Rules whose refusal ends when addresses are released."""

Action = Literal["create", "grow", "shrink", "adopt", "refresh", "none"]


class DesiredPool(NamedTuple):
    """The desired pool of an application in a scope. ``size``: the number of addresses.

    ``number``: the setting from which ``size`` was computed. ``reclaim``: whether the pool is
    deleted with the application.
    """

    scope: PoolScope
    uid: str
    size: int
    number: IpNumber
    reclaim: bool = True


class PoolPlan(NamedTuple):
    """The pool before and after the plan; ``before`` None: the pool does not exist yet.

    ``action`` names the change of the addresses, or of the labels if the addresses stay.
    """

    action: Action
    before: Pool | None
    pool: Pool

    @property
    def changed_addresses(self) -> AddressSet:
        after = pool_addresses(self.pool)
        if self.before is None:
            return after
        before = pool_addresses(self.before)
        return (after - before) | (before - after)


def find_pool(scope: PoolScope, uid: str, pools: Iterable[Pool]) -> Pool | None:
    """The application's own pool in a scope, else a pool that it may adopt.

    A reclaimable pool with another UID is skipped: it is deleted with its own application.
    """
    labels = scope_labels(scope)
    candidates = [
        pool
        for pool in pools
        if not pool.retiring
        and all(pool.labels.get(key) == value for key, value in labels.items())
        and (pool.labels.get(OWNER_UID) == uid or not is_reclaimable(pool.labels))
    ]
    return min(
        candidates, key=lambda pool: (pool.labels.get(OWNER_UID) != uid, pool.name), default=None
    )


def plan_pool(
    desired: DesiredPool, configuration: Configuration, claimed: Mapping[str, Claim]
) -> PoolPlan:
    """Plan the pool. ``claimed``: address -> claim, with all claims of the pool. Raises Refused."""
    subnet = _subnet(desired, configuration)
    existing = find_pool(desired.scope, desired.uid, configuration.pools.values())
    if existing is None:
        pool = _new_pool(desired, subnet, configuration)
        return PoolPlan("create", before=None, pool=pool)
    surplus = pool_addresses(existing).size - desired.size
    pool = _labelled(existing, desired)
    if surplus > 0:
        return PoolPlan("shrink", existing, _shrunk(pool, surplus, claimed))
    if surplus < 0:
        added_addresses = _take(-surplus, desired, subnet, configuration, existing.name)
        return PoolPlan(
            "grow", existing, _with_addresses(pool, pool_addresses(pool) | added_addresses)
        )
    if existing.labels.get(OWNER_UID) != desired.uid:
        return PoolPlan("adopt", existing, pool)
    return PoolPlan("none" if pool == existing else "refresh", existing, pool)


def _subnet(desired: DesiredPool, configuration: Configuration) -> Subnet:
    scope = desired.scope
    subnet = configuration.subnets.get(scope.subnet)
    subject = ObjectReference("SpiderSubnet", scope.subnet)
    if subnet is None:
        message = f"there is no SpiderSubnet/{scope.subnet}"
        remedy = "create it, or correct the annotation in the Pod template"
        raise _refused(subject, "NotFound", "unknown-name", message, remedy)
    if subnet.family != scope.family:
        message = f"SpiderSubnet/{scope.subnet} is of IPv{subnet.family}"
        message += f", the Pod template names it for IPv{scope.family}"
        remedy = f"name a SpiderSubnet of IPv{scope.family}"
        raise _refused(subject, "Invalid", "subnet-family", message, remedy)
    if subnet.retiring:
        message = f"SpiderSubnet/{scope.subnet} is being retired"
        message += ": automatic pools in it are not created or changed"
        remedy = "name another SpiderSubnet in the Pod template"
        raise _refused(subject, "Forbidden", "retiring", message, remedy)
    return subnet


def _new_pool(desired: DesiredPool, subnet: Subnet, configuration: Configuration) -> Pool:
    name = _free_name(desired, configuration.pools)
    addresses = _take(desired.size, desired, subnet, configuration, name)
    pool = Pool(
        name,
        subnet.family,
        subnet.subnet,
        gateway=subnet.gateway,
        routes=subnet.routes,
        pod_affinity=affinity(desired.scope.application),
    )
    return normalise_network(_with_addresses(_labelled(pool, desired), addresses))


def _free_name(desired: DesiredPool, pools: Mapping[str, Pool]) -> str:
    for attempt in range(1, NAMES_TRIED_MAX + 1):
        name = pool_name(desired.scope, desired.uid, attempt)
        if name not in pools:
            return name
    name = pool_name(desired.scope, desired.uid)
    message = (
        f"other pools have this name and the same name with the suffixes -2 to -{NAMES_TRIED_MAX}"
    )
    remedy = "delete such a pool if it is not needed"
    raise _refused(
        ObjectReference("SpiderIPPool", name), "Forbidden", "name-taken", message, remedy
    )


def _take(
    count: int, desired: DesiredPool, subnet: Subnet, configuration: Configuration, name: str
) -> AddressSet:
    """The ``count`` lowest available addresses of the subnet. Raises Refused."""
    family = subnet.family
    quarantined_values = (
        parse_address(quarantine.address).value
        for quarantine in configuration.quarantine.values()
        if quarantine.family == family
    )
    free_addresses = pool_addresses(subnet) - addresses_of_pools(
        subnet, pools_of_same_cidr(subnet, configuration.pools)
    )
    free_addresses -= reserved_addresses(configuration.reservations, family)
    free_addresses -= AddressSet.from_values(quarantined_values, family)
    if free_addresses.size < count:
        message = (
            f"insufficient subnet FreeIPs, required '{count}' but only left '{free_addresses.size}'"
            f" in SpiderSubnet/{desired.scope.subnet}"
        )
        remedy = "add addresses to the subnet, or take some from its other pools"
        raise _refused(
            ObjectReference("SpiderIPPool", name), "Forbidden", INSUFFICIENT_SUBNET, message, remedy
        )
    return free_addresses.window(0, count)


def _shrunk(pool: Pool, surplus: int, claimed: Mapping[str, Claim]) -> Pool:
    """The pool without ``surplus`` of its lowest unclaimed addresses. Raises Refused."""
    addresses = pool_addresses(pool)
    claimed_addresses = [parse_address(address) for address in claimed]
    used_addresses = AddressSet.from_values(
        (address.value for address in claimed_addresses if address.family == pool.family),
        pool.family,
    )
    unused_addresses = addresses - used_addresses
    if unused_addresses.size < surplus:
        message = (
            f"failed to scale down by {surplus}: IPPool available free IPs are not enough,"
            f" {unused_addresses.size} of {addresses.size} addresses are free"
        )
        remedy = "the pool shrinks by itself when Pods of the application have ended"
        subject = ObjectReference("SpiderIPPool", pool.name)
        raise _refused(subject, "Forbidden", SCALE_DOWN, message, remedy)
    return _with_addresses(pool, addresses - unused_addresses.window(0, surplus))


def _labelled(pool: Pool, desired: DesiredPool) -> Pool:
    """The pool with its labels. Keeps other labels; replaces all annotations by ``IP_NUMBER``."""
    labels = {
        **pool.labels,
        **scope_labels(desired.scope),
        **owner_labels(desired.uid, reclaim=desired.reclaim),
    }
    return pool._replace(labels=labels, annotations={IP_NUMBER: str(desired.number)})


def _with_addresses(pool: Pool, addresses: AddressSet) -> Pool:
    return pool._replace(ips=tuple(addresses.to_items()), exclude_ips=())


def _refused(
    subject: ObjectReference, kind: RefusalKind, rule: str, message: str, remedy: str = ""
) -> Refused:
    return Refused((subject.refuse(kind, rule, "spec.ips", message, remedy),))
