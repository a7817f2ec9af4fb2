"""The sources of pool names: six levels. Only the first level that applies is used.

See docs/reference/pool-selection.md, "Precedence". A function in ``LEVELS`` returns None if its
level does not apply. Names may contain wildcards, and pools may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.autopools.applications import (
    application_key,
    application_of_pod,
    require_controller,
)
from core.domain.autopools.pool_names import OWNER_UID, PoolScope
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, pool_size
from core.domain.autopools.subnet_annotations import NicSubnets, read_request
from core.domain.request_facts import RequestFacts
from core.domain.selection import error_texts
from core.domain.selection.pool_annotations import (
    AUTO_POOLS_DISABLED,
    NAMESPACE_IPV4_POOLS,
    NAMESPACE_IPV6_POOLS,
    POD_IPPOOL,
    POD_IPPOOLS,
    POD_SUBNET,
    POD_SUBNETS,
    read_ippool,
    read_ippools,
    read_namespace_pools,
)
from core.domain.selection.pool_catalog import PoolCatalog
from core.domain.selection.selection_request import (
    FAMILY_NAMES,
    SOURCE_CNI_CONF,
    SOURCE_DEFAULT_POOLS,
    SOURCE_NAMESPACE,
    SOURCE_POD_IPPOOL,
    SOURCE_POD_IPPOOLS,
    SOURCE_POD_SUBNETS,
    Candidates,
    NicPools,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import AllocationError, NoPoolAvailable, PoolPending, WrongInput

FROM_SUBNET: Final = "failed to get IPPool candidates from Subnet: "


class Context(NamedTuple):
    """All data that selection reads."""

    request: SelectionRequest
    facts: RequestFacts
    catalog: PoolCatalog
    settings: SelectionSettings


Level: TypeAlias = Callable[[Context], Candidates | None]


def collect(context: Context) -> Candidates:
    """The candidates of the first level that applies.

    Raises NoPoolAvailable if no level applies, and the errors of the levels.
    """
    for level in LEVELS:
        candidates = level(context)
        if candidates is not None:
            return candidates
    raise error_texts.no_pool_named(context.catalog.unreadable)


def from_pod_subnets(context: Context) -> Candidates | None:
    """Level 1: the automatic pools of the Pod's application."""
    pod, settings = context.facts.pod, context.settings
    if not settings.subnets_enabled:
        return None
    if not {POD_SUBNETS, POD_SUBNET} & pod.annotations.keys():
        return None
    if not settings.auto_pools_enabled:
        raise AllocationError(
            AUTO_POOLS_DISABLED,
            subject=error_texts.pod_subject(pod),
            remedy="set enableAutoPoolForApplication, or name IPPools instead",
        )
    try:
        nic = _requested_nic(context)
        by_family = {
            family: _automatic_pool(context, nic.interface, family, subnet)
            for family, subnet in nic.families()
            if settings.enabled(family)
        }
    except (NoPoolAvailable, WrongInput) as error:
        raise error.with_message(FROM_SUBNET + error.message, source=SOURCE_POD_SUBNETS) from None
    pools = (by_family.get(V4, ()), by_family.get(V6, ()))
    clean_gateway = context.request.clean_gateway
    return Candidates(SOURCE_POD_SUBNETS, (NicPools(nic.interface, *pools, clean_gateway),))


def _requested_nic(context: Context) -> NicSubnets:
    pod, interface = context.facts.pod, context.request.interface
    subject = error_texts.pod_subject(pod)
    subnet_request = read_request(pod.annotations, subject)
    application = application_of_pod(pod)
    require_controller(application.key)
    if subnet_request is not None:
        # Raises WrongInput for a third-party application without ``ippool-ip-number``.
        pool_size(application, subnet_request.number, AS_MANY_AS_REPLICAS)
    nic = subnet_request.find(interface) if subnet_request else None
    if nic is None:
        raise NoPoolAvailable(
            f"no IPPool available, the Pod names no subnet for NIC {interface}",
            subject=subject,
            remedy=f"add an item for {interface} to annotation {POD_SUBNETS}",
        )
    return nic


def _automatic_pool(
    context: Context, interface: str, family: Family, subnet: str
) -> tuple[str, ...]:
    pod = context.facts.pod
    application = application_key(pod)
    scope = PoolScope(application, interface, family, subnet)
    uid = pod.owner.uid if pod.owner else ""
    names = tuple(
        name
        for name in context.catalog.automatic.get(scope, ())
        if not uid or context.catalog[name].labels.get(OWNER_UID) == uid
    )
    if len(names) == 1:
        return names
    owner = f"application {application.kind}/{application.namespace}/{application.name}"
    subject = error_texts.pod_subject(pod)
    if names:
        problem = f"has more than one automatic IPPool for NIC {interface}: {', '.join(names)}"
        raise NoPoolAvailable(
            f"no IPPool available, {owner} {problem}",
            subject=subject,
            remedy="delete all of these IPPools but one",
        )
    problem = f"has no automatic {FAMILY_NAMES[family]} IPPool for NIC {interface}"
    raise PoolPending(
        f"no IPPool available, {owner} {problem} in SpiderSubnet/{subnet} yet",
        subject=subject,
        remedy=f"`orbctl describe application {application.namespace}/{application.name}` shows"
        " the reason",
    )


def from_pod_ippools(context: Context) -> Candidates | None:
    """Level 2: the pools of several NICs. The first ADD allocates addresses for all of them."""
    pod = context.facts.pod
    if POD_IPPOOLS not in pod.annotations:
        return None
    nics, unnamed = read_ippools(pod, context.request.interface)
    return Candidates(SOURCE_POD_IPPOOLS, nics, unnamed)


def from_pod_ippool(context: Context) -> Candidates | None:
    """Level 3: the pools of the requested NIC."""
    pod, request = context.facts.pod, context.request
    if POD_IPPOOL not in pod.annotations:
        return None
    nic = read_ippool(pod, request.interface, clean_gateway=request.clean_gateway)
    return Candidates(SOURCE_POD_IPPOOL, (nic,))


def from_namespace(context: Context) -> Candidates | None:
    """Level 4: the default pools of the Pod's namespace."""
    namespace = context.facts.namespace
    if not namespace.annotations:
        return None
    ipv4 = read_namespace_pools(namespace, NAMESPACE_IPV4_POOLS)
    ipv6 = read_namespace_pools(namespace, NAMESPACE_IPV6_POOLS)
    return _candidates_of_requested_nic(context.request, SOURCE_NAMESPACE, ipv4, ipv6)


def from_cni_conf(context: Context) -> Candidates | None:
    """Level 5: the default pools in the CNI configuration."""
    request = context.request
    return _candidates_of_requested_nic(
        request, SOURCE_CNI_CONF, request.default_ipv4_pools, request.default_ipv6_pools
    )


def from_default_pools(context: Context) -> Candidates | None:
    """Level 6: all pools marked as default."""
    defaults = context.catalog.defaults
    return _candidates_of_requested_nic(
        context.request, SOURCE_DEFAULT_POOLS, defaults[V4], defaults[V6]
    )


LEVELS: Final[tuple[Level, ...]] = (
    from_pod_subnets,
    from_pod_ippools,
    from_pod_ippool,
    from_namespace,
    from_cni_conf,
    from_default_pools,
)


def _candidates_of_requested_nic(
    request: SelectionRequest, source: str, ipv4: tuple[str, ...], ipv6: tuple[str, ...]
) -> Candidates | None:
    if not ipv4 and not ipv6:
        return None
    return Candidates(source, (NicPools(request.interface, ipv4, ipv6, request.clean_gateway),))
