"""From what was read to samples: names, labels and numbers. Pure.

Names and labels are those of spec/api.md 6 and spec/datapath.md 7.1. Promise: no name with the same
labels comes twice, which would cost a scraper everything; nothing is unbounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from nodeagent.rdma.values import Counted, Place, Tenant, Tenants

SAMPLES_MAX: Final = 50_000
"""Of one scrape: a hundred ports of Pods have some six thousand."""

NAME_CHARACTERS_MAX: Final = 96
SPEED: Final = "vport_speed_mbps"
TRAFFIC_CLASS: Final = "device_tos"

_PRIORITY: Final = re.compile(r"([rt]x)_prio(\d{1,2})_(pause|discards)")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNFIT: Final = re.compile(r"[^a-z0-9_]")

Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """A sample's name, without ``rdma_`` and ``_total``, and its labels."""

    name: str
    labels: Labels


class Samples(NamedTuple):
    """``left_out``: how many there were above the bound."""

    values: dict[Series, int]
    left_out: int


def samples_of(node: str, places: Iterable[Place], tenants: Tenants) -> Samples:
    """Every sample there is."""
    values: dict[Series, int] = {}
    left_out = 0
    for place in places:
        for series, value in _of_place(node, place, tenants.get(place.address)):
            if len(values) < SAMPLES_MAX or series in values:
                values[series] = value
            else:
                left_out += 1
    return Samples(values, left_out)


def guid_text(guid: int) -> str:
    """``50:6b:4b:03:00:aa:bb:cc``."""
    return guid.to_bytes(8, "big").hex(":")


def counter_name(key: str) -> str:
    """A name of the kernel or a driver as Prometheus may have it: camelCase becomes snake_case."""
    return _UNFIT.sub("_", _CAMEL.sub("_", key).lower())[:NAME_CHARACTERS_MAX]


def _of_place(node: str, place: Place, tenant: Tenant | None) -> Iterator[tuple[Series, int]]:
    whose = _tenant_labels(tenant)
    for port in place.ports:
        where = (("node_name", node), ("ifname", port.device), ("net_dev_name", port.link))
        labels = (*where, *_device_labels(port), *whose)
        for key, value in port.counters.items():
            yield Series(counter_name(key), labels), value
        for key, value in port.statistics.items():
            if found := _PRIORITY.fullmatch(key):
                name = f"{found[1]}_{found[3]}"
                yield Series(name, (*labels, ("priority", found[2]))), value
            elif "vport" in key:
                yield Series(counter_name(key), labels), value
        if port.speed_mbps is not None:
            yield Series(SPEED, labels), port.speed_mbps
        if port.traffic_class is not None:
            yield Series(TRAFFIC_CLASS, where), port.traffic_class


def _device_labels(port: Counted) -> Labels:
    labels = (
        ("node_guid", guid_text(port.node_guid)),
        ("sys_image_guid", guid_text(port.system_guid)),
        ("is_root", "true" if port.is_root else "false"),
    )
    return (*labels, ("rdma_parent_name", port.parent)) if port.parent else labels


def _tenant_labels(tenant: Tenant | None) -> Labels:
    if tenant is None:
        return ()
    labels = (("pod_namespace", tenant.namespace), ("pod_name", tenant.name))
    if tenant.owner is None:
        return labels
    return (
        *labels,
        ("owner_api_version", tenant.owner.api_version),
        ("owner_kind", tenant.owner.kind),
        ("owner_namespace", tenant.owner.namespace),
        ("owner_name", tenant.owner.name),
    )
