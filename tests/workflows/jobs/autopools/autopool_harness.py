"""Runs ``scripts/*.txt``. A command is a method of the harness; an option is ``name=value``."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import Iterable, Mapping

from core.allocation.allocator import AllocatorSettings
from core.allocation.pool_requests import PoolRequests
from core.audit.history_entries import parse_subject
from core.audit.object_history import ObjectHistory
from core.domain.autopools.application_plan import (
    ReconcileStep,
    plan_application,
    plan_deleted_application,
)
from core.domain.autopools.applications import Application, derived_uid
from core.domain.autopools.pool_names import OWNER_UID, ApplicationKey, application_of
from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyReservation,
    ApplySubnet,
    Command,
    DeletePool,
    DeleteReservation,
    DeleteSubnet,
)
from core.domain.configuration.configuration_state import Configuration, FeatureSwitches
from core.domain.evolution import Ledger
from core.domain.model import Claim, Pool, Reservation, Route, Subnet
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.request_facts import PodFacts
from core.domain.selection.selection_request import SelectionSettings
from core.domain.subnets.subnet_model import count_addresses, shares_of_subnet
from core.errors import OrbweaverError, Refused
from core.eventstore.kv import KeyValueStore
from nodeagent.handlers.pool_wait import WAIT_S_MAX, WaitingAllocator
from tests.support.engine_harness import eventually
from tests.support.node_harness import NodeHarness, addresses, check_everything
from tests.workflows.jobs.autopools.scripted_applications import (
    Applications,
    annotations_of,
    key_of,
    pod_of,
    scale_of,
)
from workflows.jobs.job_host import JobHost, JobSettings, JobSources


class AutoPoolHarness:
    """A node, applications and controllers."""

    def __init__(
        self,
        store: KeyValueStore,
        cluster: str = "test",
        settings: AutoPoolSettings = AutoPoolSettings(),
    ) -> None:
        self.store = store
        self.settings = settings
        self.applications = Applications()
        self.pods: dict[str, PodFacts] = {}
        self.waits = 0
        selection = SelectionSettings(subnets_enabled=True, auto_pools_enabled=settings.enabled)
        allocator_settings = AllocatorSettings("sequential", selection=selection)
        self.node = NodeHarness(store, cluster=cluster, settings=allocator_settings, cool_down_s=0)
        self._allocate_at_once = self.node.allocate
        self._numbers = itertools.count()
        self._leader: JobHost | None = None
        self._tasks: dict[str, tuple[JobHost, list[asyncio.Task[None]]]] = {}
        # References keep the pending tasks of killed controllers from being garbage collected.
        self._dead: list[JobHost] = []

    async def open(self, controllers: int = 1) -> None:
        await self.node.__aenter__()
        for _ in range(controllers):
            await self.start_controller()

    async def start_controller(self, store: KeyValueStore | None = None) -> JobHost:
        """Start a controller, which leads if there is no leader."""
        name = f"controller-{next(self._numbers)}"
        host = JobHost(
            store or self.store,
            self.node.keys,
            name,
            JobSettings(ReclaimSettings(enabled=False), self.settings),
            sources=JobSources(applications=self.applications),
        )
        tasks = [asyncio.create_task(host.run())]
        if self._leader is None:
            tasks.append(asyncio.create_task(host.lead()))
            self._leader = host
        self._tasks[name] = (host, tasks)
        return host

    async def kill_controller(self, host: JobHost) -> None:
        """Crash a controller. Its lease expires immediately."""
        name = next(name for name, (item, _) in self._tasks.items() if item is host)
        _, tasks = self._tasks.pop(name)
        self._dead.append(host)
        term = host.worker.term
        await host.worker.abandon()
        await _end(tasks)
        if term is not None:
            await self.store.revoke_lease(term.session.lease)
        if self._leader is host:
            self._leader = None

    async def close(self) -> None:
        await _end([task for _, tasks in self._tasks.values() for task in tasks])
        await self.node.__aexit__(None, None, None)

    async def play(self, line: str) -> str:
        """Run one command of a script; return its output or its error."""
        parts = shlex.split(line)
        options = {
            name.replace("-", "_"): value
            for name, _, value in (word.partition("=") for word in parts if "=" in word)
        }
        verb, *rest = [word for word in parts if "=" not in word]
        try:
            answer: str = await getattr(self, verb)(*rest, **options)
        except Refused as error:
            return "\n".join(f"refused: {item}" for item in error.refusals)
        except OrbweaverError as error:
            return f"{type(error).__name__}: {error.message}"
        return answer

    # Subnets, pools, reservations

    async def subnet(
        self, name: str, cidr: str, *ips: str, gateway: str = "", route: str = "", exclude: str = ""
    ) -> str:
        routes = (Route(*route.split(">")),) if route else None
        excluded = tuple(exclude.split(",")) if exclude else ()
        family = 6 if ":" in cidr else 4
        subnet = Subnet(name, family, cidr, ips, excluded, gateway, routes)  # type: ignore[arg-type]
        return await self._apply(ApplySubnet(subnet))

    async def drop_subnet(self, name: str) -> str:
        return await self._apply(DeleteSubnet(name))

    async def pool(self, name: str, cidr: str, *ips: str) -> str:
        return await self._apply(ApplyPool(Pool(name, 6 if ":" in cidr else 4, cidr, ips)))

    async def drop_pool(self, name: str) -> str:
        return await self._apply(DeletePool(name))

    async def edit_pool(self, name: str, *ips: str) -> str:
        pool = (await self.node.read_ledger()).pools[name]
        return await self._apply(ApplyPool(pool._replace(ips=ips)))

    async def reserve(self, name: str, *ips: str) -> str:
        return await self._apply(ApplyReservation(Reservation(name, 4, ips)))

    async def unreserve(self, name: str) -> str:
        return await self._apply(DeleteReservation(name))

    # Applications and Pods

    async def application(
        self,
        path: str,
        *,
        size: str = "0",
        subnet: str = "",
        subnet6: str = "",
        number: str = "",
        reclaim: str = "",
        uid: str = "",
    ) -> str:
        """Create or replace the application ``path``: NAME (a Deployment) or KIND/NAME.

        ``size``: the number of Pods. ``number``: how many addresses the application requests.
        """
        key = key_of(path)
        replaced = self.applications.existing.get(key)
        annotations = annotations_of(subnet, number, reclaim, subnet6=subnet6)
        self.applications.put(
            Application(
                key,
                uid or (replaced.uid if replaced else derived_uid(key)),
                annotations,
                scale_of(key.kind, int(size)),
            )
        )
        return ""

    async def remove(self, path: str) -> str:
        self.applications.remove(key_of(path))
        return ""

    async def pod(
        self, name: str, *, of: str = "", nic: str = "eth0", wait: str = "", **annotations: str
    ) -> str:
        """Run an ADD. ``wait``: seconds to wait for a pool."""
        pod = self.pods.setdefault(name, self.pod_facts(name, of, **annotations))
        return f"has {' '.join(sorted(await self.add(pod, nic, float(wait or WAIT_S_MAX))))}"

    def pod_facts(self, name: str, of: str = "", **annotations: str) -> PodFacts:
        application = self.applications.existing[key_of(of)] if of else None
        texts = {f"ipam.spidernet.io/{key}": text for key, text in annotations.items()}
        return pod_of(name, application, texts)

    async def pods_of(self, path: str, number: str) -> str:
        """Run an ADD for each of ``number`` Pods."""
        name = path.rpartition("/")[2]
        return "\n".join([await self.pod(f"{name}-{at}", of=path) for at in range(int(number))])

    async def stop(self, *names: str) -> str:
        for name in names:
            await self.node.delete(self.pods.pop(name))
        return ""

    async def add(self, pod: PodFacts, nic: str = "eth0", wait_s: float = WAIT_S_MAX) -> set[str]:
        requests = PoolRequests(self.store, self.node.keys)
        selection = SelectionSettings(
            subnets_enabled=True, auto_pools_enabled=self.settings.enabled
        )
        allocator = WaitingAllocator(
            self._allocate_at_once,
            requests,
            self.node.view,
            selection,
            on_wait=self._on_wait,
            wait_s=wait_s,
        )
        self.node.allocate = allocator.allocate_or_wait
        return addresses(await self.node.add(pod, nic))

    # Results

    async def settle(self) -> str:
        """Wait until no plan has an executable step; return the remaining steps as text."""
        await eventually(self.is_settled)
        remaining = {
            f"{step.action} {step.pool or '-'}: {step.reason}"
            for steps in (await self._plans()).values()
            for step in steps
        }
        return "\n".join(sorted(remaining))

    async def pools(self) -> str:
        ledger = await self.node.read_ledger()
        lines = [
            f"{name} {','.join(pool.ips) or '-'}{' retiring' if pool.retiring else ''}"
            for name, pool in sorted(ledger.pools.items())
        ]
        return "\n".join(lines) or "none"

    async def show(self, name: str) -> str:
        pool = (await self.node.read_ledger()).pools[name]
        lines = [
            f"{key}={value}" for key, value in sorted((pool.labels | pool.annotations).items())
        ]
        routes = " ".join(f"{item.dst}>{item.gw}" for item in pool.routes or ())
        return "\n".join([*lines, f"gateway={pool.gateway}", f"routes={routes}"])

    async def history(self, subject: str) -> str:
        object_history = ObjectHistory(parse_subject(subject))
        for recorded in await self.node.log():
            object_history.take(recorded)
        return "\n".join(
            f"{entry.kind}: {entry.text}" for entry in object_history.history().entries
        )

    async def counts(self, name: str) -> str:
        ledger = await self.node.read_ledger()
        counted = count_addresses(ledger.subnets[name], ledger.pools)
        lines = [
            f"{item.pool} {','.join(item.ips)} {item.application}".rstrip()
            for item in shares_of_subnet(name, ledger.pools)
        ]
        summary = f"allocated={counted.allocated} total={counted.total}"
        return "\n".join([summary, *lines])

    async def claims(self) -> str:
        ledger = await self.node.read_ledger()
        lines = [
            f"{address} {claimed.claim.pod} {claimed.claim.pool}"
            for address, claimed in sorted(ledger.claims.items())
        ]
        return "\n".join(lines) or "none"

    async def check(self) -> str:
        await check_everything(self.node)
        return ""

    async def _apply(self, command: Command) -> str:
        await self.node.apply(command)
        return ""

    def _on_wait(self) -> None:
        self.waits += 1

    async def is_settled(self) -> bool:
        plans = await self._plans()
        return not any(step.command for steps in plans.values() for step in steps)

    async def _plans(self) -> Mapping[ApplicationKey, tuple[ReconcileStep, ...]]:
        ledger = await self.node.read_ledger()
        configuration = configuration_of(ledger, self.settings)
        claimed = {address: claimed.claim for address, claimed in ledger.claims.items()}
        plans = {
            key: plan_application(
                item,
                configuration,
                claimed,
                self.settings.default_number,
                enabled=self.settings.enabled,
            )
            for key, item in self.applications.known().items()
        }
        for key in self.applications.deleted:
            plans[key] = tuple(
                _steps_of_deleted(ledger.pools.values(), key, configuration, claimed)
            )
        return plans


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end; a cancelled task may wait again for a killed store."""
    pending = [task for task in tasks if not task.done()]
    while pending:
        for task in pending:
            task.cancel()
        _, still_pending = await asyncio.wait(pending, timeout=0.05)
        pending = list(still_pending)


def _steps_of_deleted(
    pools: Iterable[Pool],
    key: ApplicationKey,
    configuration: Configuration,
    claimed: Mapping[str, Claim],
) -> list[ReconcileStep]:
    uids = {pool.labels[OWNER_UID] for pool in pools if application_of(pool.labels) == key}
    return [step for uid in uids for step in plan_deleted_application(uid, configuration, claimed)]


def configuration_of(ledger: Ledger, settings: AutoPoolSettings) -> Configuration:
    return Configuration.of(ledger, FeatureSwitches(settings.ipv4_enabled, settings.ipv6_enabled))
