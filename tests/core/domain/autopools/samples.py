"""Applications with a Pod template, and the claims of their Pods."""

from __future__ import annotations

import json
from collections.abc import Mapping

from core.domain.autopools.application_plan import ReconcileStep, plan_application
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey, PoolScope
from core.domain.autopools.pool_plan import DesiredPool
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, IpNumber
from core.domain.model import Claim, Pool, Scale, Subnet
from tests.core.domain.subnets.samples import ConfigurationHarness

SUBNET4 = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.29",), gateway="10.7.0.1")
SUBNET6 = Subnet("net6", 6, "fd00:7::/64", ("fd00:7::10-fd00:7::1f",))
OTHER_SUBNET = Subnet("other", 4, "10.8.0.0/16", ("10.8.0.10-10.8.0.29",))
WEB_UID = "3f6b1c1e-0000-4000-8000-1f2e3d4c5b6a"
WEB_KEY = ApplicationKey("apps/v1", "Deployment", "shop", "web")
WEB_SCOPE = PoolScope(WEB_KEY, "eth0", 4, "net")
POOL_NAME = "auto4-web-eth0-1f2e3"
"""The name has family, application and NIC of ``WEB_SCOPE``, and 5 characters of the UID."""


def template(subnet: object = None, number: str = "", reclaim: str = "") -> dict[str, str]:
    """The annotations of a Pod template: ``subnets`` for a list, ``subnet`` for an object."""
    value = {"ipv4": ["net"]} if subnet is None else subnet
    key = "subnets" if isinstance(value, list) else "subnet"
    texts = {key: json.dumps(value), "ippool-ip-number": number, "ippool-reclaim": reclaim}
    return {f"ipam.spidernet.io/{name}": text for name, text in texts.items() if text}


def web(
    replicas: int = 2, annotations: dict[str, str] | None = None, uid: str = WEB_UID
) -> Application:
    """The Deployment ``web``, by default in SpiderSubnet ``net``."""
    template_annotations = template() if annotations is None else annotations
    return Application(WEB_KEY, uid, template_annotations, Scale(replicas))


def desired_pool(size: int, scope: PoolScope = WEB_SCOPE, uid: str = WEB_UID) -> DesiredPool:
    return DesiredPool(scope, uid=uid, size=size, number=IpNumber(size))


def plan(
    state: ConfigurationHarness,
    application: Application,
    claimed: Mapping[str, Claim] | None = None,
    default: IpNumber = AS_MANY_AS_REPLICAS,
) -> tuple[ReconcileStep, ...]:
    return plan_application(
        application, state.configuration, claimed=claimed or {}, default=default
    )


def carry_out(
    state: ConfigurationHarness,
    steps: tuple[ReconcileStep, ...],
    claimed: Mapping[str, Claim] | None = None,
) -> None:
    for step in steps:
        if step.command is not None:
            state.apply(step.command, claimed=claimed)


def create_pool(state: ConfigurationHarness, application: Application) -> Pool:
    """Carry out the plan; return the only pool."""
    carry_out(state, plan(state, application))
    (pool,) = state.ledger.pools.values()
    return pool


def claims(*addresses: str, pool: str = POOL_NAME) -> dict[str, Claim]:
    """One claim for each address. Each claim belongs to a different Pod."""
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
