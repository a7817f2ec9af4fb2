"""The RDMA dashboards: cluster, nodes, Pods and workloads, with links to each other.

Counters: docs/reference/metrics.md, section "RDMA". Only devices in exclusive mode have labels of a
Pod and of the Pod's owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from scripts.dashboards.board import Panel, Query, Variable, board

CLUSTER: Final = 'cluster=~"$cluster"'
RATE: Final = "[$__rate_interval]"
SPEED: Final = "vport_speed_mbps"
"""Every RDMA port has this counter, so its labels name every node and Pod that has a port."""

TOP: Final = 10
STAT_WIDTH: Final = 6
"""In grid columns."""

# The counters of one panel: counter -> text in the legend.

CONGESTION: Final = {
    "np_ecn_marked_roce_packets": "marked",
    "np_cnp_sent": "notifications sent",
    "rp_cnp_handled": "notifications handled",
    "rp_cnp_ignored": "notifications ignored",
}
LOSSES: Final = {
    "out_of_sequence": "out of order",
    "packet_seq_err": "NAKs for packets out of order",
    "out_of_buffer": "no buffer",
    "implied_nak_seq_err": "missing answers",
}
REPETITIONS: Final = {
    "duplicate_request": "duplicates",
    "local_ack_timeout_err": "timeouts",
    "rnr_nak_retry_err": "receiver not ready",
}
REQUESTS: Final = {
    "rx_write_requests": "write",
    "rx_read_requests": "read",
    "rx_atomic_requests": "atomic",
    "rx_dct_connect": "dynamic connections",
}
REQUEST_ERRORS: Final = {
    "req_cqe_error": "completions",
    "req_cqe_flush_error": "flushed",
    "req_remote_invalid_request": "invalid at the peer",
    "req_remote_access_errors": "no access at the peer",
}
ANSWER_ERRORS: Final = {
    "resp_cqe_error": "completions",
    "resp_cqe_flush_error": "flushed",
    "resp_local_length_error": "wrong length",
    "resp_remote_access_errors": "no access",
}
RESTARTS: Final = {
    "roce_adp_retrans": "retransmissions",
    "roce_adp_retrans_to": "timeouts",
    "roce_slow_restart": "slow restarts",
    "roce_slow_restart_cnps": "notifications of slow restarts",
    "roce_slow_restart_trans": "changes to slow restart",
}
DIRECTIONS: Final = {"rx": "Received", "tx": "Sent"}


class Series(NamedTuple):
    """A selection of series.

    ``by``: the labels to sum by. ``matchers``: label matchers in addition to ``CLUSTER``.
    """

    by: tuple[str, ...]
    matchers: str = ""

    @property
    def legend(self) -> str:
        return " ".join(f"{{{{{label}}}}}" for label in self.by)

    def selector(self, counter: str, more: str = "") -> str:
        """The selector of a counter. ``more``: further label matchers."""
        matchers = ",".join(part for part in (CLUSTER, self.matchers, more) if part)
        return f"rdma_{counter}_total{{{matchers}}}"

    def rate(self, counter: str, more: str = "") -> str:
        return f"rate({self.selector(counter, more)}{RATE})"

    def sum(self, expression: str) -> str:
        return f"sum by ({', '.join(self.by)}) ({expression})"

    def bits(self, direction: str) -> str:
        """Unicast plus multicast in bits per second. ``direction``: "rx" or "tx"."""
        rates = (
            self.rate(f"{direction}_vport_rdma_{cast}_bytes") for cast in ("unicast", "multicast")
        )
        return f"{self.sum(' + '.join(rates))} * 8"


NODES: Final = Series(("node_name",))
NODE_DEVICES: Final = Series(("node_name", "ifname", "net_dev_name"), 'pod_name=""')
"""The devices that no Pod has: cards, and virtual functions that are not in exclusive use."""

PODS: Final = Series(("pod_namespace", "pod_name"), 'pod_name!=""')
OWNERS: Final = Series(("owner_kind", "owner_namespace", "owner_name"), 'owner_name!=""')


def dashboards() -> dict[str, dict[str, Any]]:
    """The JSON of each dashboard, by file name without the suffix."""
    node = _variable("node", "Node", "node_name")
    namespace = _variable("namespace", "Namespace", "pod_namespace")
    pod = _variable("pod", "Pod", "pod_name", 'pod_namespace=~"$namespace"')
    kind = _variable("kind", "Kind", "owner_kind")
    owner_namespace = _variable("namespace", "Namespace", "owner_namespace", 'owner_kind=~"$kind"')
    workload_matchers = 'owner_kind=~"$kind",owner_namespace=~"$namespace"'
    workload = _variable("workload", "Workload", "owner_name", workload_matchers)
    return {
        "rdma-cluster": _board("orbweaver-rdma", "RDMA cluster", (), _cluster()),
        "rdma-node": _board("orbweaver-rdma-node", "RDMA node", (node,), _node()),
        "rdma-pod": _board("orbweaver-rdma-pod", "RDMA Pod", (namespace, pod), _pod()),
        "rdma-workload": _board(
            "orbweaver-rdma-workload",
            "RDMA workload",
            (kind, owner_namespace, workload),
            _workload(),
        ),
    }


# ------------------------------------------------------------------------------------- dashboards


def _cluster() -> list[Panel]:
    tops = (("nodes", NODES), ("Pods", PODS), ("workloads", OWNERS))
    return [
        _stat("Nodes", f"count(count by (node_name) ({NODES.selector(SPEED)}))"),
        _stat(
            "Pods with devices of their own",
            f"count(count by (pod_namespace, pod_name) ({PODS.selector(SPEED)}))",
            "In exclusive mode only; shared devices belong to the node.",
        ),
        _stat(
            "Workloads",
            f"count(count by ({', '.join(OWNERS.by)}) ({OWNERS.selector(SPEED)}))",
        ),
        _stat(
            "Failed readings of counters, last hour",
            f"sum(increase(orbweaver_rdma_reading_failures_total{{{CLUSTER}}}[1h]))",
            "The agents' logs name the network namespaces and the reasons.",
        ),
        *_traffic(NODES, "by node"),
        *_utilisation(NODES, "by node", 'is_root="true"'),
        *(
            Panel(
                f"Ten {what} that {verb} most",
                "bps",
                (Query(f"topk({TOP}, {series.bits(direction)})", series.legend),),
            )
            for what, series in tops
            for direction, verb in (("rx", "receive"), ("tx", "send"))
        ),
        *_pauses(NODE_DEVICES._replace(matchers='pod_name="",is_root="true"'), "by card"),
        _counters("Discards by device", "pps", NODE_DEVICES, {"rx_discards": "received"}),
        _counters("Congestion by device", "pps", NODE_DEVICES, CONGESTION, "ECN marks, and CNPs"),
        _counters("Out of order by device", "pps", NODE_DEVICES, {"out_of_sequence": ""}),
        _qos("orbweaver_roce_qos_faults", "RoCE settings that could not be applied", CLUSTER),
        _top("Ten Pods with most packets out of order", PODS, "out_of_sequence"),
        _top("Ten Pods with most discards", PODS, "rx_discards"),
    ]


def _node() -> list[Panel]:
    node_matcher = 'node_name=~"$node"'
    devices = NODE_DEVICES._replace(matchers=f'{node_matcher},pod_name=""')
    pods = PODS._replace(by=(*PODS.by, "ifname"), matchers=f'{node_matcher},pod_name!=""')
    virtual_functions = Series(
        ("node_name", "rdma_parent_name"), f'{node_matcher},rdma_parent_name!=""'
    )
    return [
        *_utilisation(devices, "by device"),
        *_traffic(devices, "by device"),
        *_traffic(virtual_functions, "by card, virtual functions only"),
        *_traffic(pods, "by device of each Pod"),
        *_pauses(devices._replace(by=("node_name", "net_dev_name", "priority")), "by priority"),
        _counters(
            "Discards by priority",
            "pps",
            devices._replace(by=("node_name", "net_dev_name", "priority")),
            {"rx_discards": "received", "tx_discards": "to send"},
        ),
        _counters("Congestion", "pps", devices, CONGESTION, "ECN marks, and CNPs"),
        *_details(devices),
        _counters("Retransmissions and slow restarts", "ops", devices, RESTARTS),
        _counters("Wrong checksums", "pps", devices, {"rx_icrc_encapsulated": ""}),
        Panel(
            "Traffic class",
            "short",
            # Without a sum, one series for each device. device_tos has no labels of Pods.
            (Query(Series((), node_matcher).selector("device_tos"), devices.legend),),
            "The DSCP times four; 0: none is set.",
            kind="bargauge",
        ),
        _qos(
            "orbweaver_roce_qos_gaps",
            "RoCE settings that drivers do not support",
            CLUSTER,
        ),
    ]


def _pod() -> list[Panel]:
    pod_matchers = 'pod_name!="",pod_namespace=~"$namespace",pod_name=~"$pod"'
    devices = Series(("pod_namespace", "pod_name", "ifname", "net_dev_name"), pod_matchers)
    return [
        *_traffic(devices, "by device"),
        *_utilisation(devices, "by device"),
        *_packets(devices),
        *_details(devices),
    ]


def _workload() -> list[Panel]:
    owner_matchers = f'{OWNERS.matchers},owner_kind=~"$kind",owner_namespace=~"$namespace"'
    owners = OWNERS._replace(matchers=f'{owner_matchers},owner_name=~"$workload"')
    pods = owners._replace(by=PODS.by)
    return [
        *_traffic(owners, "by workload"),
        *_traffic(pods, "by Pod"),
        *_utilisation(pods, "by Pod"),
        *_packets(pods),
        _counters("Lost and out of order by Pod", "pps", pods, LOSSES),
        _counters("Repetitions by Pod", "ops", pods, REPETITIONS),
    ]


# ----------------------------------------------------------------------------------------- panels


def _board(
    uid: str, title: str, variables: Sequence[Variable], panels: Sequence[Panel]
) -> dict[str, Any]:
    cluster = Variable("cluster", "Cluster", f"label_values(rdma_{SPEED}_total, cluster)")
    return board(uid, f"Orbweaver: {title}", (cluster, *variables), panels)


def _variable(name: str, label: str, values: str, matchers: str = "") -> Variable:
    selector = Series((), matchers).selector(SPEED)
    return Variable(name, label, f"label_values({selector}, {values})")


def _stat(title: str, expression: str, description: str = "") -> Panel:
    return Panel(
        title, "short", (Query(expression),), description, kind="stat", width=STAT_WIDTH, height=4
    )


def _traffic(series: Series, grouping: str) -> list[Panel]:
    return [
        Panel(f"{title} {grouping}", "bps", (Query(series.bits(direction), series.legend),))
        for direction, title in DIRECTIONS.items()
    ]


def _utilisation(series: Series, grouping: str, roots: str = "") -> list[Panel]:
    """Traffic as a share of the link speed.

    ``roots``: matchers of the ports whose speeds are summed. A sum over a node must leave out
    virtual functions, because they share the link of a card.
    """
    speed = series.sum(f"{series.selector(SPEED, roots)} > 0")
    return [
        Panel(
            f"Utilisation {grouping}, {title.lower()}",
            "percentunit",
            (Query(f"{series.bits(direction)} / 1e6 / {speed}", series.legend),),
        )
        for direction, title in DIRECTIONS.items()
    ]


def _packets(series: Series) -> list[Panel]:
    return [
        _counters(
            f"{title} packets",
            "pps",
            series,
            {f"{direction}_vport_rdma_{cast}_packets": cast for cast in ("unicast", "multicast")},
        )
        for direction, title in DIRECTIONS.items()
    ]


def _pauses(series: Series, grouping: str) -> list[Panel]:
    return [
        _counters(
            f"Pause frames {title.lower()} {grouping}",
            "pps",
            series,
            {f"{direction}_pause": ""},
            "PFC: a pause that is sent asks the switch to wait.",
        )
        for direction, title in DIRECTIONS.items()
    ]


def _details(series: Series) -> list[Panel]:
    return [
        _counters("Requests received", "reqps", series, REQUESTS),
        _counters("Lost and out of order", "pps", series, LOSSES),
        _counters("Repetitions", "ops", series, REPETITIONS),
        _counters("Errors of requests", "ops", series, REQUEST_ERRORS),
        _counters("Errors of answers", "ops", series, ANSWER_ERRORS),
    ]


def _counters(
    title: str, unit: str, series: Series, counters: dict[str, str], description: str = ""
) -> Panel:
    """A panel of rates. ``counters``: counter -> text in the legend."""
    queries = (
        Query(series.sum(series.rate(counter)), f"{series.legend} {text}".strip())
        for counter, text in counters.items()
    )
    return Panel(title, unit, tuple(queries), description)


def _top(title: str, series: Series, counter: str) -> Panel:
    expression = f"topk({TOP}, {series.sum(series.rate(counter))} > 0)"
    return Panel(title, "pps", (Query(expression, series.legend),))


def _qos(metric: str, title: str, matchers: str) -> Panel:
    expression = f"sum by (instance, net_dev_name) ({metric}{{{matchers}}}) > 0"
    return Panel(
        title,
        "short",
        (Query(expression, "{{instance}} {{net_dev_name}}"),),
        "Only with orbweaver.roceQos. `orbctl node doctor` and the agent's log list the settings.",
    )
