"""The parts of an agent, made once and handed to each other.

It decides nothing and waits for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from core.allocation.allocator import Allocator, AllocatorSettings, Confirm
from core.allocation.cooldown import CoolDown
from core.allocation.pool_requests import PoolRequests
from core.allocation.releaser import HandOver, Releaser
from core.configuration.configurator import Configurator
from core.configuration.refusal_notes import Refusals
from core.errors import WriterFenced
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from core.process.connections import ConnectionCounts
from core.process.supervision import Supervisor
from core.projections.configuration_view import ConfigurationView
from nodeagent.address_service import AddressService, Allocate
from nodeagent.conflict_detection.detector import DetectionSwitches, Detector
from nodeagent.coordinator.announcer import Announcer
from nodeagent.coordinator.attachment_records import AttachmentRecords
from nodeagent.coordinator.cluster import ConfiguredSettings, CoordinatorDefaults
from nodeagent.coordinator.engine import Engine
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.facts import FactsSource, StandaloneFacts
from nodeagent.gate import Gate
from nodeagent.handlers.add_handler import AddHandler
from nodeagent.handlers.check_handler import CheckHandler
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.handlers.delete_handler import DeleteHandler
from nodeagent.handlers.gc_handler import GcHandler
from nodeagent.handlers.pool_wait import WAIT_S_MAX, WaitingAllocator
from nodeagent.handlers.status import StatusHandler, StatusSettings
from nodeagent.handlers.withdrawal_handler import WithdrawalHandler
from nodeagent.health import AgentHealth, StoreWatchdog
from nodeagent.ifacer import ifacer_handler as ifacer
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.servers import coordinator
from nodeagent.servers.call_log import CallLog
from nodeagent.servers.cni import ChainedPluginHandler, CniHandlers, CniServer
from nodeagent.servers.framed import FramedServer
from nodeagent.servers.http_api import HttpApi
from nodeagent.settings.values import Settings
from nodeagent.telemetry.metrics import AgentMetrics
from nodeagent.telemetry.observed import ObservedStore
from nodeagent.telemetry.plugin_log import PluginLog
from nodeagent.telemetry.tracing import Tracer
from nodeagent.traced_writer import TracedWriter

if TYPE_CHECKING:
    from nodeagent.handlers.provider_binding import Networks


class AgentParts(NamedTuple):
    """What an agent is made of."""

    store: KeyValueStore
    keys: Keys
    writer: Writer
    view: ConfigurationView
    facts: FactsSource
    gate: Gate
    health: AgentHealth
    metrics: AgentMetrics
    tracer: Tracer | None
    plugin_log: PluginLog
    framed: FramedServer
    http: HttpApi
    executor: NetnsExecutor
    detector: Detector
    coordinator_handler: CoordinatorHandler
    addresses: AddressService
    supervisor: Supervisor
    connections: ConnectionCounts


class AgentSources(NamedTuple):
    """Where an agent's facts come from. ``facts`` None: standalone.

    ``networks`` None: no provider binds. ``coordinator`` None: the settings of conf.yml alone.
    ``supervisor`` runs the tasks that keep them up to date, and every other one of the agent.
    """

    facts: FactsSource | None = None
    networks: Networks | None = None
    coordinator: CoordinatorDefaults | None = None
    supervisor: Supervisor | None = None


STANDALONE: Final = AgentSources()
"""No API server: records and conf.yml."""


def compose(
    settings: Settings,
    plain_store: KeyValueStore,
    tracer: Tracer | None,
    sources: AgentSources,
    on_fenced: Callable[[WriterFenced], None],
    monotonic: Callable[[], float],
) -> AgentParts:
    """All parts, not started."""
    metrics, watchdog = AgentMetrics(), StoreWatchdog()
    gate, connections = Gate(), ConnectionCounts()
    store, keys = ObservedStore(plain_store, watchdog, metrics), Keys(settings.cluster)
    writer = _writer(store, keys, settings.node_name, tracer, on_fenced)
    supervisor, faults = sources.supervisor or Supervisor(), Faults()
    view = ConfigurationView(store, keys, supervisor, faults)
    health = AgentHealth(store, keys, view, writer, watchdog, monotonic, supervisor)
    facts = sources.facts or StandaloneFacts(view, settings.node_name, settings.fixed)
    cooldown, binds = CoolDown(store, settings.cool_down_s), sources.networks is not None
    releaser = Releaser(store, keys, writer, cooldown, _hand_over(store, keys, binds=binds))
    allocating = AllocatorSettings(settings.address_order, settings.records_max, settings.selection)
    confirm = facts.confirm_current
    allocator = Allocator(store, keys, writer, view, releaser, cooldown, allocating, confirm)
    waiting = WaitingAllocator(
        allocator.allocate,
        PoolRequests(store, keys),
        view,
        settings.selection,
        on_wait=metrics.on_auto_pool_wait,
        wait_s=min(settings.pool_wait_s, WAIT_S_MAX),
        refusals=Refusals(store, keys),
    )
    executor = NetnsExecutor()
    allocate = _binding(waiting, store, keys, sources, confirm)
    delete_handler, around = DeleteHandler(releaser, facts, settings.actor), (gate, metrics, tracer)
    addresses = AddressService(*around, facts, executor, allocate, delete_handler, binds=binds)
    withdrawal_handler = WithdrawalHandler(
        store,
        keys,
        releaser,
        _configurator(settings, store, keys, writer),
        view,
        facts,
        settings.actor,
        allowed=settings.release_conflicts,
    )
    detector, plugin_log = Detector(executor), PluginLog()
    handlers = CniHandlers(
        AddHandler(
            addresses, gate, detector, withdrawal_handler, facts, _switches(settings), tracer
        ),
        addresses,
        CheckHandler(store, keys, facts),
        StatusHandler(store, keys, view, health, facts, _status_settings(settings), monotonic),
        GcHandler(store, keys, releaser, facts, settings.node_name, settings.actor, monotonic),
    )
    call_log = CallLog(plugin_log, settings.plugin_log_path)
    coordinator_handler = _coordinator_handler(
        settings, executor, facts, sources.coordinator, monotonic, faults
    )
    coordinator_log = CallLog(plugin_log, settings.coordinator_log_path)
    chained: dict[str, ChainedPluginHandler] = {
        ifacer.NAME: ifacer.Ifacer(gate, LinkConfigurator(executor, executor.home)),
        coordinator.NAME: coordinator.Coordinator(
            gate, health, coordinator_handler, coordinator_log
        ),
    }
    cni = CniServer(gate, health, handlers, call_log, chained, settings.actor)
    http = HttpApi(
        settings, store, keys, gate, health, addresses, withdrawal_handler, coordinator_handler
    )
    framed = FramedServer(cni.answer_call, supervisor, connections)
    servers = (
        plugin_log,
        framed,
        http,
        executor,
        detector,
        coordinator_handler,
        addresses,
        supervisor,
    )
    known = (store, keys, writer, view, facts, gate, health, metrics, tracer)
    parts = AgentParts(*known, *servers, connections)
    _observe(parts)
    return parts


def _writer(
    store: KeyValueStore,
    keys: Keys,
    name: str,
    tracer: Tracer | None,
    on_fenced: Callable[[WriterFenced], None],
) -> Writer:
    if tracer is None:
        return Writer(store, keys, name, on_fenced=on_fenced)
    return TracedWriter(store, keys, name, tracer, on_fenced)


def _hand_over(store: KeyValueStore, keys: Keys, *, binds: bool) -> HandOver | None:
    """``binds``: whether a network provider binds addresses."""
    if not binds:
        return None
    from core.allocation.handover import Handover  # noqa: PLC0415  # loaded only with a provider

    return Handover(store, keys).hand_over


def _binding(
    waiting: WaitingAllocator,
    store: KeyValueStore,
    keys: Keys,
    sources: AgentSources,
    confirm: Confirm,
) -> Allocate:
    if sources.networks is None:
        return waiting.allocate_or_wait
    from nodeagent.handlers.provider_binding import BindingAllocator  # noqa: PLC0415  # costs only who binds

    binding = BindingAllocator(waiting.allocate_or_wait, store, keys, sources.networks, confirm)
    return binding.allocate_and_bind


def _configurator(
    settings: Settings, store: KeyValueStore, keys: Keys, writer: Writer
) -> Configurator:
    return Configurator(
        store,
        keys,
        writer,
        ipv4_enabled=settings.selection.ipv4_enabled,
        ipv6_enabled=settings.selection.ipv6_enabled,
    )


def _coordinator_handler(
    settings: Settings,
    executor: NetnsExecutor,
    facts: FactsSource,
    cluster: CoordinatorDefaults | None,
    monotonic: Callable[[], float],
    faults: Faults,
) -> CoordinatorHandler:
    records = AttachmentRecords(settings.datapath_directory, faults)
    announcer = Announcer(executor)
    engine = Engine(
        executor, executor.home, PreferredReplyMarkRules(executor), records, announcer, os.urandom
    )
    cluster = cluster or ConfiguredSettings(settings.coordinator)
    return CoordinatorHandler(engine, records, announcer, executor, facts, cluster, monotonic)


def _switches(settings: Settings) -> DetectionSwitches:
    return DetectionSwitches(
        settings.detect_conflicts, settings.detect_gateway, settings.announce_addresses
    )


def _status_settings(settings: Settings) -> StatusSettings:
    return StatusSettings(settings.node_name, settings.selection, settings.records_max)


def _observe(parts: AgentParts) -> None:
    """Gauges of what the parts know anyway, read when somebody scrapes."""
    metrics, writer = parts.metrics, parts.writer
    metrics.gauge("requests_under_way", "Requests let in", lambda: parts.gate.under_way)
    metrics.gauge(
        "ready", "Whether this agent serves", lambda: int(parts.health.why_not_healthy() is None)
    )
    metrics.gauge(
        "coordinator_ready",
        "1 while the cluster's settings for the coordinator are known and Synced",
        lambda: int(parts.coordinator_handler.fault() is None),
    )
    metrics.gauge("writer_queue_depth", "Proposals that wait for etcd", lambda: writer.depth)
    metrics.gauge("writer_epoch", "Epoch of this writer", lambda: writer.epoch)
    metrics.counter(
        "writer_transactions", "Transactions that carried events", lambda: writer.transactions
    )
    metrics.counter(
        "task_restarts",
        "Long-lived tasks that ended and were started again",
        lambda: parts.supervisor.restarts,
    )
    metrics.gauge_by(
        *("kind", "contained_faults", "Objects that this process cannot read and goes on without"),
        parts.view.faults.by_kind,
    )
    counts = parts.connections
    metrics.counter(
        "connections_refused", "Connections closed because of a bound", lambda: counts.refused
    )
    metrics.counter(
        "connections_timed_out", "Connections closed without a request", lambda: counts.timed_out
    )
    metrics.counter("requests_malformed", "Requests that were no HTTP", lambda: counts.malformed)
    metrics.counter(
        "requests_abandoned",
        "Requests dropped because their caller hung up before they were started",
        lambda: counts.abandoned,
    )
    metrics.gauge("view_revision", "etcd revision of the view", lambda: parts.view.current.revision)
    metrics.counter(
        "plugin_log_dropped_lines",
        "Lines of the plugin's log that came too fast to be written",
        lambda: parts.plugin_log.dropped,
    )
    detected = parts.detector.counts
    metrics.counter("detection_looks", "NICs whose link was looked at", lambda: detected.probes)
    metrics.counter(
        "detection_strangers", "Addresses found in use by strangers", lambda: detected.conflicts
    )
    metrics.counter(
        "detection_silent_gateways",
        "Gateways that did not answer",
        lambda: detected.silent_gateways,
    )
    metrics.counter(
        "detection_failures", "NICs that could not be looked at", lambda: detected.failures
    )
