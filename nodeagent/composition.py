"""Builds and connects the parts of an agent. Starts no part."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from core.allocation.allocator import Allocator, AllocatorSettings
from core.allocation.cooldown import CoolDown
from core.allocation.pool_requests import PoolRequests
from core.allocation.refusal_recorder import RefusalRecorder
from core.allocation.releaser import ProviderRelease, Releaser
from core.configuration.configurator import Configurator
from core.configuration.refusal_notes import RefusalNotes
from core.errors import WriterFenced
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.undecodable_values import Faults
from core.eventstore.writer import Writer
from core.process.connections import ConnectionCounts
from core.process.supervision import Supervisor
from core.process.tracing import current_tracer
from core.projections.configuration_view import ConfigurationView
from nodeagent.conflict_detection.detector import DetectionSwitches, Detector
from nodeagent.coordinator.address_announcer import Announcer
from nodeagent.coordinator.attachment_engine import Engine
from nodeagent.coordinator.attachment_records import AttachmentRecords
from nodeagent.coordinator.rdma_isolation import RdmaIsolation
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.coordinator.settings import ConfiguredSettings, CoordinatorDefaults
from nodeagent.devices.pci_files import PciFiles
from nodeagent.handlers.add_handler import AddHandler, Allocate, AllocationSteps
from nodeagent.handlers.assigned_address_probe import AssignedAddressProbe
from nodeagent.handlers.check_handler import CheckHandler
from nodeagent.handlers.conflict_probe import ConflictProbe
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.handlers.delete_handler import DeleteHandler
from nodeagent.handlers.gc_handler import GcHandler
from nodeagent.handlers.pool_wait import WAIT_S_MAX, WaitingAllocator
from nodeagent.handlers.status_handler import StatusHandler, StatusSettings
from nodeagent.handlers.withdrawal_handler import WithdrawalHandler
from nodeagent.health import AgentHealth, StoreWatchdog
from nodeagent.ifacer import ifacer_handler as ifacer
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.pod_facts import FactsSource, StandaloneFactsSource
from nodeagent.request_runner import RequestRunner
from nodeagent.servers import coordinator_server
from nodeagent.servers.call_log_lines import CallLog
from nodeagent.servers.cni_server import ChainedPluginHandler, CniHandlers, CniServer
from nodeagent.servers.framed_server import AnswerCall, FramedServer
from nodeagent.servers.http_api import HttpApi, HttpHandlers
from nodeagent.servers.traced_calls import TracedCalls
from nodeagent.settings.agent_settings import Settings
from nodeagent.telemetry.metrics import AgentMetrics
from nodeagent.telemetry.observed_store import ObservedStore
from nodeagent.telemetry.plugin_log import PluginLog

if TYPE_CHECKING:
    from nodeagent.handlers.provider_binding import Networks
    from nodeagent.sriov.reconciler import PolicySource


class AgentParts(NamedTuple):
    """The parts of one agent."""

    store: KeyValueStore
    keys: Keys
    writer: Writer
    view: ConfigurationView
    refusal_recorder: RefusalRecorder
    facts: FactsSource
    runner: RequestRunner
    health: AgentHealth
    metrics: AgentMetrics
    plugin_log: PluginLog
    framed: FramedServer
    http: HttpApi
    executor: NetnsExecutor
    detector: Detector
    coordinator_handler: CoordinatorHandler
    handlers: CniHandlers
    supervisor: Supervisor
    connections: ConnectionCounts


class AgentSources(NamedTuple):
    """Parts that the caller passes to ``compose``; in a cluster, these parts use the API server.

    ``facts`` None: facts come from the records that ``orbctl apply`` has stored. ``coordinator``
    None: the coordinator's settings come only from conf.yml. ``supervisor`` None: ``compose``
    creates one. ``server``: the API server's URL.
    """

    facts: FactsSource | None = None
    networks: Networks | None = None
    coordinator: CoordinatorDefaults | None = None
    supervisor: Supervisor | None = None
    sriov: PolicySource | None = None
    server: str = ""


STANDALONE_SOURCES: Final = AgentSources()


class _Base(NamedTuple):
    settings: Settings
    store: KeyValueStore
    keys: Keys
    writer: Writer
    view: ConfigurationView
    facts: FactsSource
    runner: RequestRunner
    health: AgentHealth
    metrics: AgentMetrics
    supervisor: Supervisor
    monotonic: Callable[[], float]
    executor: NetnsExecutor
    plugin_log: PluginLog
    releaser: Releaser
    cooldown: CoolDown
    refusal_recorder: RefusalRecorder


def compose(
    settings: Settings,
    plain_store: KeyValueStore,
    sources: AgentSources,
    on_fenced: Callable[[WriterFenced], None],
    monotonic: Callable[[], float],
) -> AgentParts:
    """Build all parts. An ``ObservedStore`` wraps ``plain_store`` for metrics and health."""
    base = _base(settings, plain_store, sources, on_fenced, monotonic)
    detector, connections = Detector(base.executor), ConnectionCounts()
    withdrawal_handler = _withdrawal_handler(base)
    assigned_address_probe = AssignedAddressProbe(
        detector, withdrawal_handler, base.facts, _detection_switches(settings), settings.actor
    )
    coordinator_handler = _coordinator_handler(base, sources.coordinator, assigned_address_probe)
    handlers = _cni_handlers(base, sources, detector, withdrawal_handler)
    call_log = CallLog(base.plugin_log, settings.plugin_log_path)
    chained = _chained_plugins(base, coordinator_handler)
    cni = CniServer(base.runner, base.health, handlers, call_log, chained, settings.actor)
    http = HttpApi(
        settings,
        base.store,
        base.keys,
        base.runner,
        base.health,
        HttpHandlers(handlers.add, handlers.delete, withdrawal_handler, coordinator_handler),
    )
    return AgentParts(
        store=base.store,
        keys=base.keys,
        writer=base.writer,
        view=base.view,
        refusal_recorder=base.refusal_recorder,
        facts=base.facts,
        runner=base.runner,
        health=base.health,
        metrics=base.metrics,
        plugin_log=base.plugin_log,
        framed=FramedServer(_answer_call(cni), base.supervisor, connections),
        http=http,
        executor=base.executor,
        detector=detector,
        coordinator_handler=coordinator_handler,
        handlers=handlers,
        supervisor=base.supervisor,
        connections=connections,
    )


def _answer_call(cni: CniServer) -> AnswerCall:
    tracer = current_tracer()
    return cni.answer_call if tracer is None else TracedCalls(cni.answer_call, tracer).answer_call


def _base(
    settings: Settings,
    plain_store: KeyValueStore,
    sources: AgentSources,
    on_fenced: Callable[[WriterFenced], None],
    monotonic: Callable[[], float],
) -> _Base:
    metrics, watchdog = AgentMetrics(), StoreWatchdog()
    store, keys = ObservedStore(plain_store, watchdog, metrics), Keys(settings.cluster)
    writer = Writer(store, keys, settings.node_name, on_fenced=on_fenced)
    supervisor = sources.supervisor or Supervisor()
    view = ConfigurationView(store, keys, supervisor, Faults())
    cooldown = CoolDown(store, settings.cool_down_s)
    standalone_facts = StandaloneFactsSource(view, settings.node_name, settings.fixed_addresses)
    provider_release = _provider_release(store, keys, sources)
    return _Base(
        settings=settings,
        store=store,
        keys=keys,
        writer=writer,
        view=view,
        facts=sources.facts or standalone_facts,
        runner=RequestRunner(),
        health=AgentHealth(store, keys, view, writer, watchdog, monotonic, supervisor),
        metrics=metrics,
        supervisor=supervisor,
        monotonic=monotonic,
        executor=NetnsExecutor(),
        plugin_log=PluginLog(),
        releaser=Releaser(store, keys, writer, cooldown, provider_release),
        cooldown=cooldown,
        refusal_recorder=RefusalRecorder(writer, monotonic),
    )


def _provider_release(
    store: KeyValueStore, keys: Keys, sources: AgentSources
) -> ProviderRelease | None:
    if sources.networks is None:
        return None
    from core.allocation.handover import Handover  # noqa: PLC0415  # only with a provider

    return Handover(store, keys).hand_over


def _allocation_function(base: _Base, sources: AgentSources) -> Allocate:
    settings, store, keys = base.settings, base.store, base.keys
    confirm = base.facts.confirm_current
    allocator = Allocator(
        store,
        keys,
        base.writer,
        base.view,
        base.releaser,
        base.cooldown,
        AllocatorSettings(settings.address_order, settings.records_max, settings.selection),
        confirm,
    )
    waiting_allocator = WaitingAllocator(
        allocator.allocate,
        PoolRequests(store, keys),
        base.view,
        settings.selection,
        on_wait=base.metrics.on_auto_pool_wait,
        wait_s=min(settings.pool_wait_s, WAIT_S_MAX),
        refusal_notes=RefusalNotes(store, keys),
    )
    if sources.networks is None:
        return waiting_allocator.allocate_or_wait
    from nodeagent.handlers.provider_binding import BindingAllocator  # noqa: PLC0415  # only with a provider

    binding_allocator = BindingAllocator(
        waiting_allocator.allocate_or_wait, store, keys, sources.networks, confirm
    )
    return binding_allocator.allocate_and_bind


def _withdrawal_handler(base: _Base) -> WithdrawalHandler:
    settings, store, keys = base.settings, base.store, base.keys
    configurator = Configurator(
        store,
        keys,
        base.writer,
        ipv4_enabled=settings.selection.ipv4_enabled,
        ipv6_enabled=settings.selection.ipv6_enabled,
    )
    return WithdrawalHandler(
        store,
        keys,
        base.releaser,
        configurator,
        base.view,
        base.facts,
        settings.actor,
        allowed=settings.release_conflicts,
    )


def _detection_switches(settings: Settings) -> DetectionSwitches:
    return DetectionSwitches(
        conflicts=settings.detect_conflicts,
        gateway=settings.detect_gateway,
        announce=settings.announce_addresses,
    )


def _coordinator_handler(
    base: _Base, defaults: CoordinatorDefaults | None, assigned_address_probe: AssignedAddressProbe
) -> CoordinatorHandler:
    executor = base.executor
    attachment_records = AttachmentRecords(base.settings.datapath_directory, base.view.faults)
    announcer = Announcer(executor)
    rdma = RdmaIsolation(executor, executor.own_namespace, PciFiles(base.settings.sysfs))
    rules = PreferredReplyMarkRules(executor)
    engine = Engine(
        executor, executor.own_namespace, rules, attachment_records, announcer, os.urandom, rdma
    )
    return CoordinatorHandler(
        engine,
        attachment_records,
        announcer,
        executor,
        base.facts,
        defaults or ConfiguredSettings(base.settings.coordinator),
        assigned_address_probe.probe,
        base.monotonic,
    )


def _cni_handlers(
    base: _Base, sources: AgentSources, detector: Detector, withdrawal_handler: WithdrawalHandler
) -> CniHandlers:
    settings, store, keys, facts = base.settings, base.store, base.keys, base.facts
    add_handler = AddHandler(
        base.runner,
        base.metrics.allocation,
        facts,
        base.executor,
        AllocationSteps(
            _allocation_function(base, sources),
            base.refusal_recorder.note,
            binds=sources.networks is not None,
        ),
        _conflict_probe(base, detector, withdrawal_handler),
    )
    delete_handler = DeleteHandler(
        base.runner,
        base.metrics.release,
        base.releaser,
        facts,
        settings.actor,
        add_handler.deadline_s,
    )
    status_settings = StatusSettings(settings.node_name, settings.selection, settings.records_max)
    return CniHandlers(
        add_handler,
        delete_handler,
        CheckHandler(store, keys, facts),
        StatusHandler(store, keys, base.view, base.health, facts, status_settings, base.monotonic),
        GcHandler(
            store,
            keys,
            base.releaser,
            facts,
            settings.node_name,
            settings.actor,
            base.monotonic,
        ),
    )


def _conflict_probe(
    base: _Base, detector: Detector, withdrawal_handler: WithdrawalHandler
) -> ConflictProbe:
    switches = _detection_switches(base.settings)
    return ConflictProbe(base.runner, detector, withdrawal_handler, base.facts, switches)


def _chained_plugins(
    base: _Base, coordinator_handler: CoordinatorHandler
) -> dict[str, ChainedPluginHandler]:
    configurator = LinkConfigurator(base.executor, base.executor.own_namespace)
    call_log = CallLog(base.plugin_log, base.settings.coordinator_log_path)
    return {
        ifacer.NAME: ifacer.Ifacer(base.runner, configurator),
        coordinator_server.NAME: coordinator_server.CoordinatorServer(
            base.runner, base.health, coordinator_handler, call_log
        ),
    }
