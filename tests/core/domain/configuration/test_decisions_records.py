"""Records of Pods, Services and other objects, for clusters without Kubernetes."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.configuration.decisions import decide
from core.domain.events import RecordDefined, RecordDeleted
from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from tests.core.domain.configuration.samples import EMPTY_CONFIGURATION, kinds_and_fields, refusals

WEB = RecordDefined(
    "Pod",
    "shop",
    "web-0",
    labels={"app": "web"},
    annotations={},
    owner_kind="StatefulSet",
    owner_name="web",
    owner_api_version="apps/v1",
)
CONFIGURATION = EMPTY_CONFIGURATION._replace(records={("Pod", "shop", "web-0"): WEB})


@pytest.mark.parametrize(
    "record",
    [
        WEB,
        RecordDefined("Pod", "shop", "Name_of.a-runtime"),
        RecordDefined("Namespace", namespace="", name="shop", labels={"team": "a"}),
        RecordDefined("Node", namespace="", name="node-1.example.org"),
    ],
)
def test_a_new_record_is_written_as_an_event(record: RecordDefined) -> None:
    assert decide(EMPTY_CONFIGURATION, ApplyRecord(record), claimed={}) == (record,)


def test_only_a_changed_record_writes_an_event() -> None:
    changed_record = WEB._replace(labels={})

    assert decide(CONFIGURATION, ApplyRecord(WEB), claimed={}) == ()
    assert decide(CONFIGURATION, ApplyRecord(changed_record), claimed={}) == (changed_record,)


def service(address: str, *ports: ServicePort, affinity_s: int = 0) -> RecordDefined:
    spec = Service((address,), ports, affinity_s)
    return RecordDefined("Service", "shop", "web", service=spec)


def slice_of(owner: str, *addresses: str) -> RecordDefined:
    endpoints = tuple(SliceEndpoint((address,)) for address in addresses)
    endpoint_slice = EndpointSlice(owner, family=4, ports=(), endpoints=endpoints)
    return RecordDefined("EndpointSlice", "shop", "web-1", slice=endpoint_slice)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (WEB._replace(kind="Secret"), [("NotSupported", "kind")]),
        (WEB._replace(namespace=""), [("Invalid", "metadata.namespace")]),
        (WEB._replace(name="a/b"), [("Invalid", "metadata.name")]),
        (WEB._replace(name="-a", namespace="a b"), [
            ("Invalid", "metadata.name"), ("Invalid", "metadata.namespace"),
        ]),
        (WEB._replace(name="a" * 254), [("Invalid", "metadata.name")]),
        (RecordDefined("Node", "shop", "node-1"), [("Forbidden", "metadata.namespace")]),
        (WEB._replace(labels={"a": "x" * 65_536}), [("Invalid", "metadata.labels")]),
        (WEB._replace(annotations={"a": "x" * 262_144}), [("Invalid", "metadata.annotations")]),
        (WEB._replace(owner_name="x" * 400_000), [("Invalid", "")]),
        (service("10.96.0.0/16"), [("Invalid", "spec.clusterIPs")]),
        (service("10.96.0.10", ServicePort(0)), [("Invalid", "spec.ports")]),
        (service("10.96.0.10", ServicePort(80, "ICMP")), [("NotSupported", "spec.ports")]),
        (service("10.96.0.10", affinity_s=90_000), [
            ("Invalid", "spec.sessionAffinityConfig.clientIP.timeoutSeconds"),
        ]),
        (slice_of("", "10.6.0.1"), [("Invalid", "metadata.labels[kubernetes.io/service-name]")]),
        (slice_of("web", "fd00::1"), [("Invalid", "endpoints.addresses")]),
        (slice_of("web", "not-an-address"), [("Invalid", "endpoints.addresses")]),
        (slice_of("web", *["10.6.0.1"] * 1_001), [("Invalid", "endpoints")]),
    ],
)  # fmt: skip
def test_an_invalid_record_is_refused(
    record: RecordDefined, expected: list[tuple[str, str]]
) -> None:
    assert kinds_and_fields(EMPTY_CONFIGURATION, ApplyRecord(record)) == expected


def test_a_record_is_deleted_by_kind_namespace_and_name() -> None:
    command = DeleteRecord("Pod", "shop", "web-0")

    assert decide(CONFIGURATION, command, claimed={}) == (RecordDeleted("Pod", "shop", "web-0"),)


def test_an_unknown_record_is_not_found() -> None:
    (refusal,) = refusals(CONFIGURATION, DeleteRecord("Node", namespace="", name="web-0"))

    assert (refusal.kind, refusal.subject) == ("NotFound", "Node/web-0")
