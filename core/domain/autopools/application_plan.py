"""The steps that bring all automatic pools of an application to the desired state.

A reclaimable pool is deleted if the Pod template no longer requests the pool, or if another
application of the same name has replaced the pool's application. The deletion waits until no
address of the pool is claimed (docs/reference/automatic-pool-rules.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.autopools.applications import Application, require_controller, skip_reason
from core.domain.autopools.pool_names import (
    OWNER_UID,
    PoolScope,
    application_of,
    is_reclaimable,
)
from core.domain.autopools.pool_plan import (
    INSUFFICIENT_SUBNET,
    RETRIED_RULES,
    Action,
    DesiredPool,
    find_pool,
    plan_pool,
)
from core.domain.autopools.pool_size import IpNumber, pool_size
from core.domain.autopools.subnet_annotations import SubnetRequest, read_request
from core.domain.configuration.commands import ApplyAutoPool, DropAutoPool
from core.domain.configuration.configuration_state import Configuration
from core.domain.model import Claim, Pool
from core.domain.selection.pool_annotations import AUTO_POOLS_DISABLED
from core.domain.validation.common_rules import counted
from core.errors import OrbweaverError, Refused, WrongInput

StepAction = Literal[Action, "delete", "retire", "wait", "refuse"]


class ReconcileStep(NamedTuple):
    """One step, or the reason why the step cannot be made.

    ``command`` is None for ``refuse`` and for ``wait`` (claims delay the deletion of the pool).
    ``again``: the step may succeed later without a change of the template or subnet. ``subnet``:
    the SpiderSubnet of ``addresses``; in a step ``refuse``, the subnet with too few free addresses.
    """

    action: StepAction
    pool: str
    reason: str
    command: ApplyAutoPool | DropAutoPool | None = None
    addresses: tuple[str, ...] = ()
    again: bool = False
    remedy: str = ""
    subnet: str = ""


def plan_application(
    application: Application,
    configuration: Configuration,
    claimed: Mapping[str, Claim],
    default: IpNumber,
    *,
    enabled: bool = True,
) -> tuple[ReconcileStep, ...]:
    """The steps for an existing application.

    ``claimed``: address -> claim, for all claims in the application's pools. ``default``: the
    number of addresses if the template has no number. ``enabled``: whether the cluster creates
    automatic pools. Deletions come first, so that later steps can use the addresses. A template
    that cannot be parsed is refused.
    """
    try:
        desired_pools = _desired_pools(application, default, enabled=enabled)
    except WrongInput as error:
        return (refused_step(pool="", error=error),)
    steps = list(_undesired_pool_steps(application, configuration, claimed, desired_pools))
    deleted_names = {step.pool for step in steps if step.action == "delete"}
    pools = {name: pool for name, pool in configuration.pools.items() if name not in deleted_names}
    remaining_configuration = configuration._replace(pools=pools)
    for desired in desired_pools:
        if configuration.enabled(desired.scope.family):
            steps += _desired_pool_steps(desired, remaining_configuration, claimed)
    return tuple(steps)


def named_subnets(application: Application | None) -> frozenset[str]:
    """The subnets in the Pod template; empty if the template cannot be parsed."""
    try:
        request = application and read_request(application.annotations, str(application))
    except WrongInput:
        return frozenset()
    if not request:
        return frozenset()
    return frozenset(subnet for nic in request.nics for _, subnet in nic.families())


def plan_deleted_application(
    uid: str, configuration: Configuration, claimed: Mapping[str, Claim]
) -> tuple[ReconcileStep, ...]:
    """The steps for a deleted application: its reclaimable pools are retired, then deleted.

    A pool is deleted when its claims have ended. The caller has checked that no workload of the
    same kind, namespace and name exists.
    """
    pools = (pool for _, pool in sorted(configuration.pools.items()))
    reclaimable_pools = [
        pool
        for pool in pools
        if application_of(pool.labels) is not None
        and pool.labels.get(OWNER_UID) == uid
        and is_reclaimable(pool.labels)
    ]
    reason = "its application was deleted"
    return tuple(_drop_step(pool, claimed, reason, retire=True) for pool in reclaimable_pools)


def _desired_pools(
    application: Application, default: IpNumber, *, enabled: bool
) -> tuple[DesiredPool, ...]:
    if skip_reason(application):
        return ()
    request = read_request(application.annotations, str(application))
    if request is None:
        return ()
    if not enabled:
        raise WrongInput(AUTO_POOLS_DISABLED, subject=str(application))
    require_controller(application.key)
    size = pool_size(application, request.number, default)
    number = default if request.number is None else request.number
    return tuple(
        DesiredPool(scope, application.uid, size, number, request.reclaim)
        for scope in _pool_scopes(application, request)
    )


def _pool_scopes(application: Application, request: SubnetRequest) -> Iterator[PoolScope]:
    for nic in request.nics:
        for family, subnet in nic.families():
            yield PoolScope(application.key, nic.interface, family, subnet)


def _undesired_pool_steps(
    application: Application,
    configuration: Configuration,
    claimed: Mapping[str, Claim],
    desired_pools: tuple[DesiredPool, ...],
) -> Iterator[ReconcileStep]:
    pools = configuration.pools
    desired_names = {
        pool.name
        for desired in desired_pools
        if (pool := find_pool(desired.scope, desired.uid, pools.values())) is not None
    }
    for name, pool in sorted(pools.items()):
        if application_of(pool.labels) != application.key or name in desired_names:
            continue
        if pool.labels.get(OWNER_UID) != application.uid:
            if is_reclaimable(pool.labels):
                yield _drop_step(pool, claimed, "its application was replaced", retire=True)
            continue
        # The template sets one ``reclaim`` for all desired pools.
        reclaims = desired_pools[0].reclaim if desired_pools else is_reclaimable(pool.labels)
        if reclaims or pool.retiring:
            reason = "the Pod template no longer requests it"
            yield _drop_step(pool, claimed, reason, retire=False)


def _drop_step(
    pool: Pool, claimed: Mapping[str, Claim], reason: str, *, retire: bool
) -> ReconcileStep:
    claim_count = sum(claim.pool == pool.name for claim in claimed.values())
    command = DropAutoPool(pool.name, pool.labels[OWNER_UID], retire)
    if not claim_count:
        return ReconcileStep("delete", pool.name, reason, command, pool.ips)
    explanation = f"{reason}; addresses still claimed: {claim_count}"
    if retire and not pool.retiring:
        return ReconcileStep("retire", pool.name, explanation, command, again=True)
    return ReconcileStep("wait", pool.name, explanation, again=True)


def _desired_pool_steps(
    desired: DesiredPool, configuration: Configuration, claimed: Mapping[str, Claim]
) -> tuple[ReconcileStep, ...]:
    try:
        plan = plan_pool(desired, configuration, claimed)
    except Refused as error:
        existing = find_pool(desired.scope, desired.uid, configuration.pools.values())
        return (refused_step(existing.name if existing else "", error, desired.scope.subnet),)
    if plan.action == "none":
        return ()
    addresses = counted(desired.size, "address", "addresses")
    reason = _REASONS[plan.action].format(addresses=addresses, scope=desired.scope)
    items = tuple(plan.changed_addresses.to_items())
    command, subnet = ApplyAutoPool(desired), desired.scope.subnet
    return (ReconcileStep(plan.action, plan.pool.name, reason, command, items, subnet=subnet),)


_REASONS: Final[Mapping[Action, str]] = {
    "create": "{addresses} of {scope.subnet} for {scope.interface} IPv{scope.family}",
    "grow": "to {addresses} of {scope.subnet}",
    "shrink": "to {addresses}",
    "adopt": "the application is back under another UID",
    "refresh": "labels and the value of ippool-ip-number follow the Pod template",
}


def refused_step(pool: str, error: OrbweaverError, subnet: str = "") -> ReconcileStep:
    """The step that reports a refused pool."""
    refusals = error.refusals if isinstance(error, Refused) else ()
    rules = {refusal.rule for refusal in refusals}
    text = "; ".join(refusal.message for refusal in refusals) or error.message
    remedy = "; ".join(refusal.remedy for refusal in refusals if refusal.remedy) or error.remedy
    again = bool(rules) and rules <= RETRIED_RULES
    full_subnet = subnet if INSUFFICIENT_SUBNET in rules else ""
    return ReconcileStep("refuse", pool, text, again=again, remedy=remedy, subnet=full_subnet)
