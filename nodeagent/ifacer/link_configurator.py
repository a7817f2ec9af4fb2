"""Making a node have what is wanted: read, plan, do, and read again until nothing is left.

Promise: one call at a time on this node; bounded rounds; what another process does meanwhile is
seen in the next round. It works in the agent's own network namespace, which is the node's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from errno import EOPNOTSUPP
from typing import Final

from core.errors import DatapathError, NetlinkRefused
from nodeagent.ifacer.conf import DesiredBond, InterfaceConfig
from nodeagent.ifacer.link_plan import NodeLinks, choosing_active, next_steps
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.numbers import RT_SCOPE_LINK
from nodeagent.netlink.requests import Request
from nodeagent.netlink.session import NetlinkSession

ROUNDS_MAX: Final = 10
"""A VLAN on a new bond takes five."""

_log: Final = logging.getLogger(__name__)


class LinkConfigurator:
    """Prepares master interfaces in one namespace."""

    def __init__(self, executor: NetnsExecutor, namespace: NetworkNamespace) -> None:
        self._executor = executor
        self._namespace = namespace
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, wanted: InterfaceConfig) -> None:
        """Raises DatapathError and its kinds: what cannot be had, and what the kernel refuses."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._prepare, wanted)

    def _prepare(self, wanted: InterfaceConfig) -> None:
        with self._executor.session(self._namespace) as session:
            had_bond = wanted.bond is not None and session.link(wanted.bond.name) is not None
            made = wanted.bond is not None and not had_bond
            for _ in range(ROUNDS_MAX):
                plan = next_steps(wanted, _facts(session, made=made))
                if not plan.steps:
                    break
                _do(session, plan.steps, wanted)
                _log.info("%s: %s", wanted.parent, "; ".join(step.what for step in plan.steps))
            else:
                raise DatapathError(
                    f"{wanted.parent} was not ready after {ROUNDS_MAX} rounds",
                    subject=wanted.parent,
                    remedy="something else on this node changes the same interfaces",
                )
            if made and wanted.bond is not None and wanted.bond.options.active:
                _choose_active(session, wanted.bond)
        for words in plan.left_out:
            _log.warning("%s", words)


def _choose_active(session: NetlinkSession, bond: DesiredBond) -> None:
    """A wish: the kernel chooses another where this member's link does not count as up yet."""
    for outcome in session.attempt(choosing_active(bond, _facts(session, made=True))):
        if outcome.number:
            _log.warning("%s of bond %s is not active: %s", bond.options.active, bond.name, outcome)


def _do(session: NetlinkSession, steps: Sequence[Request], wanted: InterfaceConfig) -> None:
    try:
        session.apply(steps)
    except NetlinkRefused as error:
        if error.number == EOPNOTSUPP:
            text = f"the kernel of this node cannot do this: {error.message}"
            modules = " ".join(_modules(wanted))
            remedy = f"load the modules: modprobe -a {modules}; `orbctl node doctor` tells more"
            raise DatapathError(text, subject=wanted.parent, remedy=remedy) from error
        raise


def _modules(wanted: InterfaceConfig) -> list[str]:
    return [*(["bonding"] if wanted.bond else []), *(["8021q"] if wanted.vlan else [])]


def _facts(session: NetlinkSession, *, made: bool) -> NodeLinks:
    addresses = session.addresses()
    in_use = frozenset(one.link for one in addresses if one.scope < RT_SCOPE_LINK)
    return NodeLinks(tuple(session.links()), in_use, made)
