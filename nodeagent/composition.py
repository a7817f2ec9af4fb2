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


class _SharedParts(NamedTuple):
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
    shared = _shared_parts(settings, plain_store, sources, on_fenced, monotonic)
    detector, connections = Detector(shared.executor), ConnectionCounts()
    withdrawal_handler = _withdrawal_handler(shared)
    assigned_address_probe = AssignedAddressProbe(
        detector, withdrawal_handler, shared.facts, _detection_switches(settings), settings.actor
    )
    coordinator_handler = _coordinator_handler(shared, sources.coordinator, assigned_address_probe)
    handlers = _cni_handlers(shared, sources, detector, withdrawal_handler)
    call_log = CallLog(shared.plugin_log, settings.plugin_log_path)
    chained = _chained_plugins(shared, coordinator_handler)
    cni = CniServer(shared.runner, shared.health, handlers, call_log, chained, settings.actor)
    http = HttpApi(
        settings,
        shared.store,
        shared.keys,
        shared.runner,
        shared.health,
        HttpHandlers(handlers.add, handlers.delete, withdrawal_handler, coordinator_handler),
    )
    return AgentParts(
        store=shared.store,
        keys=shared.keys,
        writer=shared.writer,
        view=shared.view,
        refusal_recorder=shared.refusal_recorder,
        facts=shared.facts,
        runner=shared.runner,
        health=shared.health,
        metrics=shared.metrics,
        plugin_log=shared.plugin_log,
        framed=FramedServer(_answer_call(cni), shared.supervisor, connections),
        http=http,
        executor=shared.executor,
        detector=detector,
        coordinator_handler=coordinator_handler,
        handlers=handlers,
        supervisor=shared.supervisor,
        connections=connections,
    )


def _answer_call(cni: CniServer) -> AnswerCall:
    tracer = current_tracer()
    return cni.answer_call if tracer is None else TracedCalls(cni.answer_call, tracer).answer_call


def _shared_parts(
    settings: Settings,
    plain_store: KeyValueStore,
    sources: AgentSources,
    on_fenced: Callable[[WriterFenced], None],
    monotonic: Callable[[], float],
) -> _SharedParts:
    metrics, watchdog = AgentMetrics(), StoreWatchdog()
    store, keys = ObservedStore(plain_store, watchdog, metrics), Keys(settings.cluster)
    writer = Writer(store, keys, settings.node_name, on_fenced=on_fenced)
    supervisor = sources.supervisor or Supervisor()
    view = ConfigurationView(store, keys, supervisor, Faults())
    cooldown = CoolDown(store, settings.cool_down_s)
    standalone_facts = StandaloneFactsSource(view, settings.node_name, settings.fixed_addresses)
    provider_release = _provider_release(store, keys, sources)
    return _SharedParts(
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


def _allocation_function(shared: _SharedParts, sources: AgentSources) -> Allocate:
    settings, store, keys = shared.settings, shared.store, shared.keys
    confirm = shared.facts.confirm_pod_exists
    allocator = Allocator(
        store,
        keys,
        shared.writer,
        shared.view,
        shared.releaser,
        shared.cooldown,
        AllocatorSettings(settings.address_order, settings.records_max, settings.selection),
        confirm,
    )
    waiting_allocator = WaitingAllocator(
        allocator.allocate,
        PoolRequests(store, keys),
        shared.view,
        settings.selection,
        on_wait=shared.metrics.on_auto_pool_wait,
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


def _withdrawal_handler(shared: _SharedParts) -> WithdrawalHandler:
    settings, store, keys = shared.settings, shared.store, shared.keys
    configurator = Configurator(
        store,
        keys,
        shared.writer,
        ipv4_enabled=settings.selection.ipv4_enabled,
        ipv6_enabled=settings.selection.ipv6_enabled,
    )
    return WithdrawalHandler(
        store,
        keys,
        shared.releaser,
        configurator,
        shared.view,
        shared.facts,
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
    shared: _SharedParts,
    defaults: CoordinatorDefaults | None,
    assigned_address_probe: AssignedAddressProbe,
) -> CoordinatorHandler:
    executor = shared.executor
    attachment_records = AttachmentRecords(shared.settings.datapath_directory, shared.view.faults)
    announcer = Announcer(executor)
    rdma = RdmaIsolation(executor, executor.own_namespace, PciFiles(shared.settings.sysfs))
    rules = PreferredReplyMarkRules(executor)
    engine = Engine(
        executor, executor.own_namespace, rules, attachment_records, announcer, os.urandom, rdma
    )
    return CoordinatorHandler(
        engine,
        attachment_records,
        announcer,
        executor,
        shared.facts,
        defaults or ConfiguredSettings(shared.settings.coordinator),
        assigned_address_probe.probe,
        shared.monotonic,
    )


def _cni_handlers(
    shared: _SharedParts,
    sources: AgentSources,
    detector: Detector,
    withdrawal_handler: WithdrawalHandler,
) -> CniHandlers:
    settings, store, keys, facts = shared.settings, shared.store, shared.keys, shared.facts
    add_handler = AddHandler(
        shared.runner,
        shared.metrics.allocation,
        facts,
        shared.executor,
        AllocationSteps(
            _allocation_function(shared, sources),
            shared.refusal_recorder.note,
            binds=sources.networks is not None,
        ),
        _conflict_probe(shared, detector, withdrawal_handler),
    )
    delete_handler = DeleteHandler(
        shared.runner,
        shared.metrics.release,
        shared.releaser,
        facts,
        settings.actor,
        add_handler.deadline_s,
    )
    status_settings = StatusSettings(settings.node_name, settings.selection, settings.records_max)
    return CniHandlers(
        add_handler,
        delete_handler,
        CheckHandler(store, keys, facts),
        StatusHandler(
            store, keys, shared.view, shared.health, facts, status_settings, shared.monotonic
        ),
        GcHandler(
            store,
            keys,
            shared.releaser,
            facts,
            settings.node_name,
            settings.actor,
            shared.monotonic,
        ),
    )


def _conflict_probe(
    shared: _SharedParts, detector: Detector, withdrawal_handler: WithdrawalHandler
) -> ConflictProbe:
    switches = _detection_switches(shared.settings)
    return ConflictProbe(shared.runner, detector, withdrawal_handler, switches)


def _chained_plugins(
    shared: _SharedParts, coordinator_handler: CoordinatorHandler
) -> dict[str, ChainedPluginHandler]:
    configurator = LinkConfigurator(shared.executor, shared.executor.own_namespace)
    call_log = CallLog(shared.plugin_log, shared.settings.coordinator_log_path)
    return {
        ifacer.NAME: ifacer.Ifacer(shared.runner, configurator),
        coordinator_server.NAME: coordinator_server.CoordinatorServer(
            shared.runner, shared.health, coordinator_handler, call_log
        ),
    }
