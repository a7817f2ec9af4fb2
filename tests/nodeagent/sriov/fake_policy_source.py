"""A policy source in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.domain.sriov.model import NodePolicy
from core.domain.sriov.vf_plan import DesiredNic
from core.errors import ApiUnavailable
from nodeagent.sriov.reconciler import NodeConfiguration, NodeReport


class FakePolicySource:
    """A fake of the protocol ``PolicySource``.

    ``current`` is None before the API server has been listed. ``declare`` fails while
    ``api_server_is_silent``.
    """

    def __init__(self) -> None:
        self.current: NodeConfiguration | None = NodeConfiguration([], {})
        self.declared: list[Sequence[DesiredNic]] = []
        self.reports: list[NodeReport] = []
        self.withdrawals = 0
        self.api_server_is_silent = False
        self._changed = asyncio.Event()

    def configuration(self) -> NodeConfiguration | None:
        return self.current

    async def declare(self, desired: Sequence[DesiredNic]) -> None:
        if self.api_server_is_silent:
            raise ApiUnavailable("the API server does not answer")
        self.declared.append(desired)
        if self.current is not None:
            managed = {nic.address for nic in desired if not nic.externally_managed}
            self.current = self.current._replace(managed=managed)

    async def report(self, report: NodeReport) -> None:
        self.reports.append(report)

    async def withdraw_drain_request(self) -> None:
        self.withdrawals += 1

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def set_policies(self, *policies: NodePolicy) -> None:
        assert self.current is not None
        self.current = self.current._replace(policies=policies)
        self._changed.set()

    @property
    def last_report(self) -> NodeReport:
        return self.reports[-1]
