"""The settings of reclaim. See docs/reference/reclaim-rules.md, "Settings"."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class ReclaimSettings(NamedTuple):
    """The settings of reclaim. Times are seconds.

    ``on_ready_node``, ``on_not_ready_node``: reclaim from terminating or ended Pods on such nodes.
    ``running_without_address``: reclaim from running Pods that report no address.
    ``workers``: changes of Pods that are processed at the same time.
    ``deadline_interval_s``: time between two tries to reclaim from one Pod.
    ``tries_max``: tries to reclaim from one Pod.
    ``queue_wait_s``: the longest time that a change waits for a place in the queue.
    ``on_demand_gap_s``: time between two scans on demand.
    ``extra_delay_s``: time that is added to each deadline.
    ``stateful_sets``, ``vms``, ``ipam_claims``: whether such owners have fixed addresses.
    ``outdated_endpoints``: whether to remove an endpoint without a claim even if the Pod is living.
    """

    enabled: bool = True
    on_ready_node: bool = True
    on_not_ready_node: bool = True
    running_without_address: bool = False
    workers: int = 3
    queue_max: int = 5_000
    deadlines_max: int = 100_000
    scan_interval_s: float = 600.0
    deadline_interval_s: float = 5.0
    queue_wait_s: float = 3.0
    on_demand_gap_s: float = 1.0
    extra_delay_s: float = 0.0
    tries_max: int = 5
    stateful_sets: bool = True
    vms: bool = True
    ipam_claims: bool = False
    outdated_endpoints: bool = False


RECLAIM_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "enabled": "SPIDERPOOL_GC_IP_ENABLED",
        "on_ready_node": "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_READY_NODE_ENABLED",
        "on_not_ready_node": "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_NOT_READY_NODE_ENABLED",
        "running_without_address": (
            "SPIDERPOOL_GC_ENABLE_STATELESS_RUNNING_POD_ON_EMPTY_POD_STATUS_IPS"
        ),
        "workers": "SPIDERPOOL_GC_IP_WORKER_NUM",
        "queue_max": "SPIDERPOOL_GC_CHANNEL_BUFFER",
        "deadlines_max": "SPIDERPOOL_GC_MAX_PODENTRY_DB_CAP",
        "scan_interval_s": "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION",
        "deadline_interval_s": "SPIDERPOOL_GC_TRACE_POD_GAP_DURATION",
        "queue_wait_s": "SPIDERPOOL_GC_SIGNAL_TIMEOUT_DURATION",
        "on_demand_gap_s": "SPIDERPOOL_GC_HTTP_REQUEST_TIME_GAP",
        "extra_delay_s": "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY",
        "tries_max": "SPIDERPOOL_GC_PODENTRY_MAX_RETRIES",
    }
)
"""Field -> environment variable of the controller, as in Spiderpool."""
