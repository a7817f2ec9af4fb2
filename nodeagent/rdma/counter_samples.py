"""Converts RDMA counters to the Prometheus text format (docs/reference/metrics.md).

No name occurs twice with the same labels, because a scraper would reject the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from core import __version__
from nodeagent.rdma.counter_help import HELP_TEXTS, UNKNOWN_COUNTER_HELP
from nodeagent.rdma.rdma_ports import NamespacePorts, RdmaPod, RdmaPods, RdmaPortLink
from nodeagent.telemetry.metrics import COMPATIBLE_SCOPE

SAMPLES_MAX: Final = 50_000

NAME_CHARACTERS_MAX: Final = 96
SPEED_COUNTER: Final = "vport_speed_mbps"
TRAFFIC_CLASS: Final = "device_tos"

_PRIORITY: Final = re.compile(r"([rt]x)_prio(\d{1,2})_(pause|discards)")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNFIT: Final = re.compile(r"[^a-z0-9_]")

_SCOPE: Final = (("otel_scope_name", COMPATIBLE_SCOPE), ("otel_scope_version", __version__))
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Labels = tuple[tuple[str, str], ...]


class Samples(NamedTuple):
    """Values by name (without ``rdma_`` and ``_total``), then by label text.

    ``left_out``: samples beyond ``SAMPLES_MAX``.
    """

    values: dict[str, dict[str, int]]
    left_out: int


def samples_of(node: str, namespaces: Iterable[NamespacePorts], rdma_pods: RdmaPods) -> Samples:
    """The samples of all ports."""
    values: dict[str, dict[str, int]] = {}
    count = left_out = 0
    for ports in namespaces:
        pod = rdma_pods.get(ports.address)
        for name, labels, value in _of_namespace(node, ports, pod):
            values_by_labels = values.setdefault(name, {})
            if labels not in values_by_labels:
                if count == SAMPLES_MAX:
                    left_out += 1
                    continue
                count += 1
            values_by_labels[labels] = value
    return Samples(values, left_out)


def text_of(samples: Samples) -> bytes:
    """Prometheus text, sorted by names and labels."""
    lines: list[str] = []
    for key, values_by_labels in sorted(samples.values.items()):
        name = f"rdma_{key}_total"
        lines += (
            f"# HELP {name} {HELP_TEXTS.get(key, UNKNOWN_COUNTER_HELP)}",
            f"# TYPE {name} counter",
        )
        lines += (
            f"{name}{{{labels}}} {value}" for labels, value in sorted(values_by_labels.items())
        )
    return "".join(f"{line}\n" for line in lines).encode()


def guid_text(guid: int) -> str:
    """A GUID as text, such as ``50:6b:4b:03:00:aa:bb:cc``."""
    return guid.to_bytes(8, "big").hex(":")


def counter_name(key: str) -> str:
    """A counter's name in snake_case, with only characters that Prometheus allows."""
    return _UNFIT.sub("_", _CAMEL.sub("_", key).lower())[:NAME_CHARACTERS_MAX]


def _of_namespace(
    node: str, ports: NamespacePorts, pod: RdmaPod | None
) -> Iterator[tuple[str, str, int]]:
    """The samples of one namespace: name, labels, value."""
    pod_labels = _pod_labels(pod)
    for port in ports.ports:
        port_labels = (
            ("node_name", node),
            ("ifname", port.device),
            ("net_dev_name", port.link),
            *_SCOPE,
        )
        labels = _label_text((*port_labels, *_device_labels(port), *pod_labels))
        for key, value in port.counters.items():
            yield counter_name(key), labels, value
        for key, value in port.statistics.items():
            if match := _PRIORITY.fullmatch(key):
                yield f"{match[1]}_{match[3]}", f'{labels},priority="{match[2]}"', value
            elif "vport" in key:
                yield counter_name(key), labels, value
        if port.speed_mbps is not None:
            yield SPEED_COUNTER, labels, port.speed_mbps
        if port.traffic_class is not None:
            yield TRAFFIC_CLASS, _label_text(port_labels), port.traffic_class


def _label_text(labels: Labels) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels)


def _device_labels(port: RdmaPortLink) -> Labels:
    labels = (
        ("node_guid", guid_text(port.node_guid)),
        ("sys_image_guid", guid_text(port.system_guid)),
        ("is_root", "true" if port.is_root else "false"),
    )
    return (*labels, ("rdma_parent_name", port.parent)) if port.parent else labels


def _pod_labels(pod: RdmaPod | None) -> Labels:
    if pod is None:
        return ()
    labels = (("pod_namespace", pod.namespace), ("pod_name", pod.name))
    if pod.owner is None:
        return labels
    return (
        *labels,
        ("owner_api_version", pod.owner.api_version),
        ("owner_kind", pod.owner.kind),
        ("owner_namespace", pod.owner.namespace),
        ("owner_name", pod.owner.name),
    )
