"""Reads the scenario files of pool selection: YAML lists of scenarios.

Fields of pools are named as in a SpiderIPPool; ``terminating``: the pool is being deleted. Fields
of ``request`` are named as in the CNI configuration; ``interface`` and ``masterAddresses`` are
those of the ADD. Fields of ``settings`` are named as in ``SelectionSettings``. Annotations may omit
``ipam.spidernet.io/``. Defaults: IPv4 pools without rules, Pod shop/web-0 on node-1, NIC eth0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.domain.model import Owner, Pool
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.request_facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.selection.selection_request import SelectionRequest, SelectionSettings
from tests.support.yaml_reader import read_yaml

FOLDER = Path(__file__).parent / "scenarios"
SUBNETS = {4: "10.0.0.0/16", 6: "fd00::/64"}


class Scenario(NamedTuple):
    title: str
    pools: dict[str, Pool]
    facts: RequestFacts
    request: SelectionRequest
    settings: SelectionSettings
    expect: dict[str, Any]


def scenarios() -> list[Scenario]:
    return [
        _scenario(dict(entry))
        for path in sorted(FOLDER.glob("*.yaml"))
        for entry in read_yaml(path.read_text(encoding="utf-8"))
    ]


def pool(name: str, fields: Mapping[str, Any] | None = None) -> Pool:
    remaining = dict(fields or {})
    family = remaining.pop("ipVersion", 4)
    pool_of_fields = Pool(
        name=name,
        family=family,
        subnet=remaining.pop("subnet", SUBNETS.get(family, "")),
        pod_affinity=selector(remaining.pop("podAffinity", None)),
        namespace_affinity=selector(remaining.pop("namespaceAffinity", None)),
        namespace_names=tuple(remaining.pop("namespaceName", ())),
        node_affinity=selector(remaining.pop("nodeAffinity", None)),
        node_names=tuple(remaining.pop("nodeName", ())),
        multus_names=tuple(remaining.pop("multusName", ())),
        default=remaining.pop("default", False),
        disabled=remaining.pop("disable", False),
        retiring=remaining.pop("terminating", False),
        labels=remaining.pop("labels", {}),
    )
    assert not remaining, f"unknown fields of pool {name}: {remaining}"
    return pool_of_fields


def selector(fields: Mapping[str, Any] | None) -> LabelSelector | None:
    if fields is None:
        return None
    requirements = tuple(
        Requirement(entry["key"], entry["operator"], tuple(entry.get("values", ())))
        for entry in fields.get("matchExpressions", ())
    )
    return LabelSelector(fields.get("matchLabels", {}), requirements)


def annotation_texts(annotations: Mapping[str, Any]) -> dict[str, str]:
    """Annotations with full keys; a value that is not a string becomes JSON."""
    encoded = {}
    for key, value in annotations.items():
        full_key = key if "/" in key else f"ipam.spidernet.io/{key}"
        encoded[full_key] = value if isinstance(value, str) else json.dumps(value)
    return encoded


def _scenario(entry: dict[str, Any]) -> Scenario:
    title = entry.pop("scenario")
    pools = entry.pop("pools", {})
    if isinstance(pools, list):
        pools = dict.fromkeys(pools)
    scenario = Scenario(
        title,
        {name: pool(name, fields) for name, fields in pools.items()},
        _facts(entry.pop("pod", {}), entry.pop("namespace", None), entry.pop("node", None)),
        _request(dict(entry.pop("request", {}))),
        SelectionSettings(**entry.pop("settings", {})),
        entry.pop("expect"),
    )
    assert not entry, f"unknown keys in scenario '{title}': {entry}"
    return scenario


def _facts(
    pod: Mapping[str, Any], namespace: Mapping[str, Any] | None, node: Mapping[str, Any] | None
) -> RequestFacts:
    remaining = dict(pod)
    owner = remaining.pop("owner", None)
    if owner is not None:
        owner = Owner(
            owner["kind"],
            owner["name"],
            namespace=owner.get("namespace", ""),
            api_version=owner["apiVersion"],
        )
    pod_facts = PodFacts(
        remaining.pop("namespace", "shop"),
        remaining.pop("name", "web-0"),
        "uid-1",
        node=remaining.pop("node", "node-1"),
        labels=remaining.pop("labels", {}),
        annotations=annotation_texts(remaining.pop("annotations", {})),
        owner=owner,
    )
    assert not remaining, f"unknown fields of the Pod: {remaining}"
    return RequestFacts(
        pod_facts,
        NamespaceFacts(
            pod_facts.namespace,
            labels=(namespace or {}).get("labels", {}),
            annotations=annotation_texts((namespace or {}).get("annotations", {})),
            known=namespace is not None,
        ),
        NodeFacts(pod_facts.node, labels=(node or {}).get("labels", {}), known=node is not None),
    )


def _request(fields: dict[str, Any]) -> SelectionRequest:
    masters = fields.pop("masterAddresses", None)
    request = SelectionRequest(
        fields.pop("interface", "eth0"),
        default_ipv4_pools=tuple(fields.pop("default_ipv4_ippool", ())),
        default_ipv6_pools=tuple(fields.pop("default_ipv6_ippool", ())),
        clean_gateway=fields.pop("clean_gateway", False),
        match_master_subnet=fields.pop("match_master_subnet", False),
        master_addresses=None if masters is None else tuple(masters),
    )
    assert not fields, f"unknown fields of the request: {fields}"
    return request
