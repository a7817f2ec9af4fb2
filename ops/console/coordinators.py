"""SpiderCoordinators in the console's API. Pure."""

from __future__ import annotations

from core.audit.indexed_log import LogInstant
from core.domain.coordinators import Coordinator
from ops.console.json_values import Document, PageRequest, instant_at, instant_document, page_of


def coordinator_page(instant: LogInstant, request: PageRequest) -> Document:
    """``CoordinatorPage`` of console-api.yaml, sorted by name."""
    records = instant.log.coordinators.at(instant.position)
    names, page = page_of(sorted(records), request)
    return {
        "at": instant_document(instant),
        "items": [
            _document(instant, name, records[name].coordinator or Coordinator()) for name in names
        ],
        **page,
    }


def _document(instant: LogInstant, name: str, coordinator: Coordinator) -> Document:
    since = instant.log.coordinators.version_position(name, instant.position)
    return {
        "name": name,
        "phase": coordinator.phase,
        "reason": coordinator.reason,
        "settings": coordinator.settings,
        "overlayPodCIDR": list(coordinator.overlay_pod_cidr),
        "serviceCIDR": list(coordinator.service_cidr),
        "since": instant_at(since, instant.log.clock.time_of(since)),
    }
