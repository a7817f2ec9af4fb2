"""Allocates from automatic pools: at once if possible, else after the controllers create the pool.

If the pool is missing or too small, the ADD writes a pool request to etcd. The ADD tries again
after each report of the controllers, until a report shows that the controllers do not try again, or
``WAIT_S_MAX`` is over. An ADD whose pool has a free address does not wait (I8 of
docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from core.allocation.add_request import AddRequest
from core.allocation.allocator import Added
from core.allocation.pool_requests import PoolRequests, ReconcileReport
from core.configuration.refusal_notes import RefusalNotes
from core.domain.autopools.applications import Application, application_of_pod, is_built_in
from core.domain.autopools.pool_names import OWNER_UID, PoolScope
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, pool_size
from core.domain.autopools.subnet_annotations import SubnetRequest, read_request
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.request_facts import PodFacts, RequestFacts
from core.domain.selection.error_texts import missing_pool_of
from core.domain.selection.pool_annotations import POD_SUBNET, POD_SUBNETS
from core.domain.selection.selection_request import SelectionSettings
from core.errors import AddressesUsedOut, AllocationError, Compacted, PoolPending, WrongInput
from core.projections.configuration_view import ConfigurationView
from nodeagent.handlers.add_handler import Allocate

WAIT_S_MAX: Final = 25.0
"""Less than the ADD's deadline, so that the error text can give the reason."""

WAITERS_MAX: Final = 250
"""Less than ``request_runner.REQUESTS_MAX``, so that other requests are admitted."""

PoolError = PoolPending | AddressesUsedOut


class WaitingAllocator:
    """An allocator that waits for automatic pools. ``on_wait`` is called for each wait."""

    def __init__(
        self,
        allocate: Allocate,
        pool_requests: PoolRequests,
        view: ConfigurationView,
        settings: SelectionSettings,
        *,
        on_wait: Callable[[], None],
        wait_s: float = WAIT_S_MAX,
        refusal_notes: RefusalNotes | None = None,
    ) -> None:
        self._on_wait = on_wait
        self._allocate = allocate
        self._pool_requests = pool_requests
        self._view = view
        self._automatic_pools_enabled = settings.subnets_enabled and settings.auto_pools_enabled
        self._wait_s = wait_s
        self._waiting = 0
        self._refusal_notes = refusal_notes

    async def allocate_or_wait(self, request: AddRequest, facts: RequestFacts) -> Added:
        """Like ``Allocator.allocate``, with the same errors."""
        annotations = facts.pod.annotations
        try:
            if self._automatic_pools_enabled and (
                POD_SUBNETS in annotations or POD_SUBNET in annotations
            ):
                return await self._allocate_from_automatic_pools(request, facts)
            return await self._allocate(request, facts)
        except AllocationError as error:
            name = missing_pool_of(error)
            if self._refusal_notes is None or not name:
                raise
            # If controllers refused a SpiderIPPool of this name, a note says why.
            raise await self._refusal_notes.with_reason(error, name) from None

    async def _allocate_from_automatic_pools(
        self, request: AddRequest, facts: RequestFacts
    ) -> Added:
        application = application_of_pod(facts.pod)
        if self._needs_resize(application, facts.pod):
            await self._pool_requests.put(application)
        try:
            return await self._allocate(request, facts)
        except (PoolPending, AddressesUsedOut) as error:
            if self._waiting >= WAITERS_MAX:
                raise
            return await self._wait(request, facts, application, error)

    async def _wait(
        self, request: AddRequest, facts: RequestFacts, application: Application, error: PoolError
    ) -> Added:
        self._on_wait()
        self._waiting += 1
        report: ReconcileReport | None = None
        try:
            revision = await self._pool_requests.put(application)
            async with aclosing(self._reports(application, revision)) as reports:
                async for report in reports:
                    try:
                        return await self._allocate(request, facts)
                    except (PoolPending, AddressesUsedOut) as next_error:
                        error = next_error
                    # ``again``: the controllers try again, and then write another report.
                    if not any(problem.again for problem in report.problems):
                        break
        finally:
            self._waiting -= 1
        raise with_reason_of_report(error, report, self._wait_s)

    async def _reports(
        self, application: Application, revision: int
    ) -> AsyncGenerator[ReconcileReport, None]:
        clock = asyncio.get_running_loop().time
        end_time = clock() + self._wait_s
        async with aclosing(self._pool_requests.reports(application.key, revision)) as reports:
            while True:
                try:
                    yield await asyncio.wait_for(anext(reports), end_time - clock())
                except (TimeoutError, Compacted):
                    return

    def _needs_resize(self, application: Application, pod: PodFacts) -> bool:
        """Whether an automatic pool of a third-party application has the wrong size.

        Controllers resize the pools of built-in kinds without a pool request.
        """
        if is_built_in(application.key):
            return False
        try:
            request = read_request(pod.annotations, "")
            size = pool_size(application, request.number, AS_MANY_AS_REPLICAS) if request else 0
        except WrongInput:
            return False  # the allocator raises the same error
        return request is not None and any(
            current_size != size for current_size in self._pool_sizes(application, request)
        )

    def _pool_sizes(self, application: Application, request: SubnetRequest) -> list[int]:
        catalog = self._view.current.catalog
        return [
            pool_addresses(catalog[name]).size
            for nic in request.nics
            for family, subnet in nic.families()
            for name in catalog.automatic.get(
                PoolScope(application.key, nic.interface, family, subnet), ()
            )
            if catalog[name].labels.get(OWNER_UID) == application.uid
        ]


def with_reason_of_report(
    error: PoolError, report: ReconcileReport | None, waited_s: float
) -> AllocationError:
    """The error, with the reason from the controllers' last report."""
    if report is None:
        why = f"no controller has processed the pool request within {waited_s:g} s"
        remedy = "check that a controller is running: `orbctl status`"
    elif report.problems:
        why = "; ".join(map(str, report.problems))
        remedies = dict.fromkeys(problem.remedy for problem in report.problems if problem.remedy)
        remedy = "; ".join(remedies) or error.remedy
        remedy += f"; see `orbctl workflow describe {report.workflow}`"
    elif isinstance(error, PoolPending):
        why = "the application's Pod template does not request this pool"
        remedy = "set the annotation in the application's Pod template, not on its Pods"
    else:
        why = "the pool cannot grow: it has as many addresses as its application requests"
        remedy = "raise ipam.spidernet.io/ippool-ip-number, for example to +1 for rolling updates"
    return error.with_message(f"{error.message}: {why}", remedy=remedy)
