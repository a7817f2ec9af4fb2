"""Creates master interfaces: the bonds and VLANs on which Pods' NICs are made.

``prepare`` works in rounds. Each round reads the node's links, because other processes may change
them, and applies the next steps of ``link_plan``. Calls run one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from errno import EOPNOTSUPP
from typing import TYPE_CHECKING, Final

from core.errors import DatapathError, NetlinkRefused
from core.process.tracing import child_span
from nodeagent.ifacer.ifacer_configuration import DesiredBond, InterfaceConfig
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.numbers import RT_SCOPE_LINK
from nodeagent.netlink.requests import Request
from nodeagent.netlink.session import NetlinkSession

if TYPE_CHECKING:
    from nodeagent.ifacer.link_plan import NodeLinks

ROUNDS_MAX: Final = 10
"""A VLAN on a new bond needs five rounds."""

_log: Final = logging.getLogger(__name__)


class LinkConfigurator:
    """Creates master interfaces in one namespace."""

    def __init__(self, executor: NetnsExecutor, namespace: NetworkNamespace) -> None:
        self._executor = executor
        self._namespace = namespace
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, config: InterfaceConfig) -> None:
        """Create missing links. Raises DatapathError for a conflict or a refused change."""
        with child_span("ifacer.prepare", attributes={"network.interface.name": config.parent}):
            async with self._one_at_a_time:
                await asyncio.to_thread(self._prepare, config)

    def _prepare(self, config: InterfaceConfig) -> None:
        from nodeagent.ifacer.link_plan import next_steps  # noqa: PLC0415  # imports pyroute2

        with self._executor.session(self._namespace) as session:
            is_new_bond = config.bond is not None and session.link(config.bond.name) is None
            for _ in range(ROUNDS_MAX):
                plan = next_steps(config, _node_links(session, is_new_bond=is_new_bond))
                if not plan.steps:
                    break
                _apply(session, plan.steps, config)
                changes = "; ".join(step.what for step in plan.steps)
                _log.info("changed the links of %s: %s", config.parent, changes)
            else:
                raise DatapathError(
                    f"the links of {config.parent} still differ from the configuration after"
                    f" {ROUNDS_MAX} rounds of changes",
                    subject=config.parent,
                    remedy="find out which other program on this node changes these interfaces",
                )
            if is_new_bond and config.bond is not None and config.bond.options.active_member:
                _choose_active_member(session, config.bond)
        for text in plan.skipped:
            _log.warning("%s", text)


def _choose_active_member(session: NetlinkSession, bond: DesiredBond) -> None:
    """Runs after the rounds, because the active member must be up."""
    from nodeagent.ifacer.link_plan import active_member_step  # noqa: PLC0415  # imports pyroute2

    links = _node_links(session, is_new_bond=True)
    for outcome in session.attempt(active_member_step(bond, links)):
        if outcome.errno:
            _log.warning(
                "cannot make %s the active member of bond %s: %s",
                bond.options.active_member,
                bond.name,
                os.strerror(outcome.errno),
            )


def _apply(session: NetlinkSession, steps: Sequence[Request], config: InterfaceConfig) -> None:
    try:
        session.apply(steps)
    except NetlinkRefused as error:
        if error.errno == EOPNOTSUPP:
            text = f"the kernel of this node does not support this: {error.message}"
            modules = " ".join(_modules(config))
            remedy = f"load the modules: modprobe -a {modules}; then run `orbctl node doctor`"
            raise DatapathError(text, subject=config.parent, remedy=remedy) from error
        raise


def _modules(config: InterfaceConfig) -> list[str]:
    modules = []
    if config.bond:
        modules.append("bonding")
    if config.vlan:
        modules.append("8021q")
    return modules


def _node_links(session: NetlinkSession, *, is_new_bond: bool) -> NodeLinks:
    from nodeagent.ifacer.link_plan import NodeLinks  # noqa: PLC0415  # imports pyroute2

    in_use = frozenset(
        address.link for address in session.addresses() if address.scope < RT_SCOPE_LINK
    )
    return NodeLinks(tuple(session.links()), in_use, is_new_bond)
