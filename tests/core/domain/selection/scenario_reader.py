"""Reads the scenario files: a YAML list of scenarios with the fields of the custom resources.

A scenario has the existing pools, the Pod, and the expected selection. Defaults: an IPv4 pool
without rules, Pod shop/web-0 on node-1, NIC eth0. Unknown keys are refused, so that a typing
mistake is not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from core.domain.facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.model import Owner, Pool
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.selection.request import SelectionRequest, SelectionSettings

FOLDER = Path(__file__).parent / "scenarios"
SUBNETS = {4: "10.0.0.0/16", 6: "fd00::/64"}


class Scenario(NamedTuple):
    """One scenario."""

    title: str
    pools: dict[str, Pool]
    facts: RequestFacts
    request: SelectionRequest
    settings: SelectionSettings
    expect: dict[str, Any]


def scenarios() -> list[Scenario]:
    """All scenarios of all files."""
    return [
        _scenario(dict(entry))
        for path in sorted(FOLDER.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def pool(name: str, fields: Mapping[str, Any] | None = None) -> Pool:
    """A pool from the fields of its CR."""
    given = dict(fields or {})
    family = given.pop("ipVersion", 4)
    made = Pool(
        name=name,
        family=family,
        subnet=given.pop("subnet", SUBNETS.get(family, "")),
        pod_affinity=selector(given.pop("podAffinity", None)),
        namespace_affinity=selector(given.pop("namespaceAffinity", None)),
        namespace_names=tuple(given.pop("namespaceName", ())),
        node_affinity=selector(given.pop("nodeAffinity", None)),
        node_names=tuple(given.pop("nodeName", ())),
        multus_names=tuple(given.pop("multusName", ())),
        default=given.pop("default", False),
        disabled=given.pop("disable", False),
        retiring=given.pop("terminating", False),
        labels=given.pop("labels", {}),
    )
    assert not given, f"unknown fields of pool {name}: {given}"
    return made


def selector(fields: Mapping[str, Any] | None) -> LabelSelector | None:
    """A Kubernetes label selector; ``{}`` matches everything."""
    if fields is None:
        return None
    requirements = tuple(
        Requirement(entry["key"], entry["operator"], tuple(entry.get("values", ())))
        for entry in fields.get("matchExpressions", ())
    )
    return LabelSelector(fields.get("matchLabels", {}), requirements)


def texts(given: Mapping[str, Any]) -> dict[str, str]:
    """Annotations with full keys; values that are not strings are encoded as JSON."""
    return {
        key if "/" in key else f"ipam.spidernet.io/{key}": value
        if isinstance(value, str)
        else json.dumps(value)
        for key, value in given.items()
    }


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
    given = dict(pod)
    owner = given.pop("owner", None)
    pod_facts = PodFacts(
        given.pop("namespace", "shop"),
        given.pop("name", "web-0"),
        "uid-1",
        given.pop("node", "node-1"),
        given.pop("labels", {}),
        texts(given.pop("annotations", {})),
        owner
        and Owner(owner["kind"], owner["name"], owner.get("namespace", ""), owner["apiVersion"]),
    )
    assert not given, f"unknown fields of the Pod: {given}"
    return RequestFacts(
        pod_facts,
        NamespaceFacts(
            pod_facts.namespace,
            (namespace or {}).get("labels", {}),
            texts((namespace or {}).get("annotations", {})),
            known=namespace is not None,
        ),
        NodeFacts(pod_facts.node, (node or {}).get("labels", {}), known=node is not None),
    )


def _request(given: dict[str, Any]) -> SelectionRequest:
    masters = given.pop("masterAddresses", None)
    request = SelectionRequest(
        given.pop("interface", "eth0"),
        tuple(given.pop("default_ipv4_ippool", ())),
        tuple(given.pop("default_ipv6_ippool", ())),
        given.pop("clean_gateway", False),
        given.pop("match_master_subnet", False),
        None if masters is None else tuple(masters),
    )
    assert not given, f"unknown fields of the request: {given}"
    return request
