"""Manifests become commands; a command has every field of its custom resource.

See docs/reference/custom-resources.md, "SpiderIPPool" and "SpiderReservedIP".
"""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6
from core.domain.configuration.commands import Command, DeletePool, DeleteRecord, DeleteReservation
from core.domain.events import RecordDefined
from core.domain.model import Pool, Reservation, Route
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from core.errors import Refused
from core.manifests.commands import apply_command, delete_command
from core.manifests.manifest_parser import objects, read_object
from tests.core.manifests.samples import (
    POOL_YAML,
    RESERVATION_YAML,
    command_of,
    pool_of,
    record_of,
    reservation_of,
)
from tests.support.manifests import load_documents

EVERY_FIELD = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: blue
  labels: {team: net}
  annotations: {note: "yes"}
  namespace: ignored
  uid: 0c5d
  resourceVersion: "17"
  generation: 3
  creationTimestamp: 2026-01-02T03:04:05Z
  finalizers: [spiderpool.spidernet.io]
  managedFields: [{manager: kubectl, fieldsV1: {"f:spec": {}}}]
spec:
  ipVersion: 4
  subnet: 10.7.0.0/16
  ips: [10.7.0.10-10.7.0.20, 10.7.0.30]
  excludeIPs: [10.7.0.12]
  gateway: 10.7.0.1
  routes:
  - {dst: 10.9.0.0/16, gw: 10.7.0.2}
  podAffinity:
    matchLabels: {app: web}
    matchExpressions:
    - {key: tier, operator: In, values: [front, back]}
    - {key: gone, operator: DoesNotExist}
  namespaceAffinity: {matchLabels: {env: prod}}
  namespaceName: [shop]
  nodeAffinity: {matchExpressions: [{key: rack, operator: Exists}]}
  nodeName: [node-1, node-2]
  multusName: [kube-system/macvlan]
  default: true
  disable: true
status:
  allocatedIPCount: 0
  anything: goes
"""


def test_every_field_of_a_pool_is_read() -> None:
    assert pool_of(EVERY_FIELD) == Pool(
        name="blue",
        family=V4,
        subnet="10.7.0.0/16",
        ips=("10.7.0.10-10.7.0.20", "10.7.0.30"),
        exclude_ips=("10.7.0.12",),
        gateway="10.7.0.1",
        routes=(Route("10.9.0.0/16", "10.7.0.2"),),
        pod_affinity=LabelSelector(
            {"app": "web"},
            (Requirement("tier", "In", ("front", "back")), Requirement("gone", "DoesNotExist")),
        ),
        namespace_affinity=LabelSelector({"env": "prod"}),
        namespace_names=("shop",),
        node_affinity=LabelSelector({}, (Requirement("rack", "Exists"),)),
        node_names=("node-1", "node-2"),
        multus_names=("kube-system/macvlan",),
        default=True,
        disabled=True,
        labels={"team": "net"},
        annotations={"note": "yes"},
    )


def test_missing_fields_have_their_defaults() -> None:
    assert pool_of(POOL_YAML) == Pool("blue", V4, "10.7.0.0/16", ("10.7.0.10-10.7.0.20",))


def test_a_null_field_counts_as_missing() -> None:
    optional = (
        "ipVersion excludeIPs gateway routes podAffinity namespaceAffinity"
        " namespaceName nodeAffinity nodeName multusName default disable"
    )
    nulls = "".join(f"  {field}: null\n" for field in optional.split())

    assert pool_of(POOL_YAML + nulls) == pool_of(POOL_YAML)


def test_an_empty_list_of_routes_differs_from_missing_routes() -> None:
    assert pool_of(POOL_YAML + "  routes: []\n").routes == ()
    assert pool_of(POOL_YAML).routes is None


def test_an_empty_selector_differs_from_a_missing_selector() -> None:
    assert pool_of(POOL_YAML + "  podAffinity: {}\n").pod_affinity == LabelSelector()
    assert pool_of(POOL_YAML).pod_affinity is None


def test_a_missing_ip_version_is_derived_from_the_subnet() -> None:
    assert pool_of(POOL_YAML.replace("10.7.0.0/16", "fd00:7::/64")).family == V6
    assert pool_of(POOL_YAML.replace("10.7.0.0/16", "10.7.0.0/016")).family == V4


def test_an_ip_version_that_contradicts_the_subnet_is_kept_for_validation() -> None:
    assert pool_of(POOL_YAML + "  ipVersion: 6\n").family == V6


def test_a_reservation_has_the_ip_version_of_its_first_item() -> None:
    ipv6_first = RESERVATION_YAML.replace('["10.7.0.1"]', '["fd00::1-fd00::2", "10.7.0.1"]')

    assert reservation_of(RESERVATION_YAML) == Reservation("kept", V4, ("10.7.0.1",))
    assert reservation_of(ipv6_first).family == V6


def test_an_empty_reservation_needs_an_ip_version() -> None:
    empty = RESERVATION_YAML.replace('["10.7.0.1"]', "[]")

    with pytest.raises(Refused, match="ipVersion is not set"):
        command_of(empty)
    assert reservation_of(empty + "  ipVersion: 6\n") == Reservation("kept", V6)


@pytest.mark.parametrize("line", ["  ipVersion: 5\n", "  ipVersion: -9223372036854775808\n"])
def test_an_ip_version_other_than_4_and_6_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="neither 4 nor 6"):
        command_of(POOL_YAML + line)


def test_a_pod_becomes_a_record_of_its_metadata() -> None:
    pod = """
        apiVersion: v1
        kind: Pod
        metadata:
          name: web-0
          namespace: shop
          uid: 0c5d
          labels: {app: web}
          annotations: {ipam.spidernet.io/ippool: '{"ipv4":["blue"]}'}
          ownerReferences:
          - {apiVersion: v1, kind: Node, name: node-1, uid: a}
          - {apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: b, controller: true}
        spec: {containers: [{name: web, image: web}], anything: [goes]}
        status: {phase: Running}
    """

    assert record_of(pod) == RecordDefined(
        "Pod",
        "shop",
        "web-0",
        labels={"app": "web"},
        annotations={"ipam.spidernet.io/ippool": '{"ipv4":["blue"]}'},
        owner_kind="ReplicaSet",
        owner_name="web",
        owner_api_version="apps/v1",
    )


def test_a_pod_without_namespace_and_owner_is_in_the_default_namespace() -> None:
    pod = "{apiVersion: v1, kind: Pod, metadata: {name: web-0}}"

    assert record_of(pod) == RecordDefined("Pod", "default", "web-0")


def test_a_service_becomes_a_record_with_cluster_ip_ports_and_policies() -> None:
    text = """
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop, labels: {app: web}}
        spec:
          clusterIP: 10.96.0.10
          type: NodePort
          selector: {app: web}
          sessionAffinity: ClientIP
          internalTrafficPolicy: Local
          ports:
          - {name: http, port: 80, targetPort: web, nodePort: 30080}
          - {port: 53, protocol: UDP}
    """
    ports = ServicePort(80, "TCP", "http"), ServicePort(53, "UDP")

    assert record_of(text) == RecordDefined(
        "Service",
        "shop",
        "web",
        labels={"app": "web"},
        service=Service(("10.96.0.10",), ports, affinity_s=10_800, local=True),
    )


@pytest.mark.parametrize(
    "spec", ["{clusterIP: None}", "{type: ExternalName, externalName: a.example}", "{}"]
)
def test_a_service_without_cluster_ip_has_no_address(spec: str) -> None:
    text = f"{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}"

    assert record_of(text).service == Service()


def test_an_endpoint_without_conditions_is_ready_and_serving() -> None:
    text = """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
        addressType: IPv6
        ports: [{port: 8080, name: ''}, {name: later}]
        endpoints:
        - {addresses: ['fd00:6::1'], nodeName: node-1}
        - {addresses: ['fd00:6::2'], conditions: {ready: false}}
        - {addresses: ['fd00:6::3'], conditions: {ready: false, serving: true, terminating: true}}
    """
    endpoint_slice = record_of(text).slice

    assert endpoint_slice == EndpointSlice(
        "web",
        family=6,
        ports=(ServicePort(8080),),
        endpoints=(
            SliceEndpoint(("fd00:6::1",), node="node-1"),
            SliceEndpoint(("fd00:6::2",), ready=False, serving=False),
            SliceEndpoint(("fd00:6::3",), ready=False, serving=True, terminating=True),
        ),
    )


@pytest.mark.parametrize("kind", ["Namespace", "Node"])
def test_records_of_namespaces_and_nodes_have_neither_namespace_nor_owner(kind: str) -> None:
    text = f"""
        apiVersion: v1
        kind: {kind}
        metadata:
          name: a
          namespace: ignored
          labels: {{rack: r1}}
          ownerReferences: [{{kind: X, name: y, controller: true}}]
        spec: {{podCIDR: 10.0.0.0/24}}
    """

    assert record_of(text) == RecordDefined(kind, namespace="", name="a", labels={"rack": "r1"})


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (POOL_YAML, DeletePool("blue")),
        (RESERVATION_YAML, DeleteReservation("kept")),
        ("{apiVersion: v1, kind: Pod, metadata: {name: p}}", DeleteRecord("Pod", "default", "p")),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: n}}",
            DeleteRecord("Node", namespace="", name="n"),
        ),
    ],
)
def test_a_delete_command_has_only_kind_namespace_and_name(text: str, command: Command) -> None:
    (manifest,) = load_documents(text)

    assert delete_command(manifest) == command


def test_a_text_may_contain_several_documents_and_lists() -> None:
    text = f"""---
# nothing here
---
{POOL_YAML}---
apiVersion: v1
kind: List
metadata: {{resourceVersion: ""}}
items:
- {{apiVersion: v1, kind: Node, metadata: {{name: n1}}}}
- {{apiVersion: v1, kind: Node, metadata: {{name: n2}}}}
...
"""
    bodies = {location: read_object(value, location) for location, value in objects(text)}

    assert [(at, body.kind, body.metadata.name) for at, body in bodies.items()] == [
        ("document 2", "SpiderIPPool", "blue"),
        ("document 3, items[0]", "Node", "n1"),
        ("document 3, items[1]", "Node", "n2"),
    ]
    assert all(apply_command(body) for body in bodies.values())


@pytest.mark.parametrize("text", ["", "---\n---\n", "# only a remark", "\ufeff", "null"])
def test_a_text_without_objects_has_no_manifests(text: str) -> None:
    assert load_documents(text) == []


def test_a_manifest_may_be_json() -> None:
    text = (
        '{"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool",'
        ' "metadata": {"name": "blue"}, "spec": {"subnet": "10.7.0.0/16"}}'
    )

    assert pool_of(text) == Pool("blue", V4, "10.7.0.0/16")


def test_values_shared_by_an_alias_or_a_merge_key_are_read() -> None:
    text = (
        POOL_YAML
        + """\
  podAffinity: {matchLabels: &labels {app: web, tier: front}}
  nodeAffinity: {matchLabels: {<<: *labels, tier: back}}
  namespaceAffinity: {matchLabels: {<<: {app: web}, <<: {tier: front}}}
"""
    )
    pool = pool_of(text)

    assert pool.pod_affinity == LabelSelector({"app": "web", "tier": "front"})
    assert pool.node_affinity == LabelSelector({"app": "web", "tier": "back"})
    assert pool.namespace_affinity == pool.pod_affinity


def test_strings_in_the_form_of_dates_stay_strings() -> None:
    pool = pool_of(POOL_YAML + "  nodeName: [2026-01-02, =, 2026-01-02T03:04:05Z]\n")

    assert pool.node_names == ("2026-01-02", "=", "2026-01-02T03:04:05Z")
