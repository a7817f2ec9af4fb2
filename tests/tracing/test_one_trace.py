"""The traces of a laboratory with real processes equal docs/reference/traces.md."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from opentelemetry.semconv import attributes
from opentelemetry.semconv._incubating import attributes as incubating

from core import __version__
from core.process.spans import SCHEMA_URL
from ops.lab.controller import LabController
from ops.lab.laboratory import Laboratory
from ops.lab.runtime import CniFailed
from tests.support.deadlines import wait_until
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan, tree
from tests.support.parts import require_namespaces

pytestmark = [pytest.mark.netns, pytest.mark.etcd]

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
RUNTIME_VARIABLES: Final = {
    "TRACEPARENT": f"00-{TRACE_ID}-00f067aa0ba902b7-01",
    "TRACESTATE": "vendor=1",
}
POOL: Final = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan}
spec: {subnet: 10.6.0.0/24, ips: [10.6.0.100-10.6.0.199], gateway: 10.6.0.1, default: true}
"""
POD: Final = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: default}
"""
COORDINATOR: Final = {
    "mode": "auto",
    "detectIPConflict": True,
    "detectOptions": {"retries": 1, "interval": "10ms", "timeout": "50ms"},
}
RECLAIM_END: Final = "CompleteWorkflow:reclaim-pod"
PAGE: Final = Path(__file__).parents[2] / "docs/reference/traces.md"
OWN_ATTRIBUTE: Final = re.compile(r"(cni|ipam|coordinator|detection|netlink|workflow|activity)\.")
"""Matches attributes that Orbweaver defines."""


class Recorded(NamedTuple):
    """The received spans, and the lines of the plugins' logs."""

    spans: Sequence[ReceivedSpan]
    lines: Sequence[dict[str, Any]]

    def one(self, name: str) -> ReceivedSpan:
        """The only span with this name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def trees(self, *names: str) -> str:
        """The trees of the traces that contain these spans."""
        return "\n".join(
            tree(span for span in self.spans if span.trace_id == self.one(name).trace_id)
            for name in names
        )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Spans of one Pod that is deleted, and of one Pod that is reclaimed."""
    require_namespaces()
    path = tmp_path_factory.mktemp("otlp") / "socket"
    with OtlpReceiver(path) as receiver, pytest.MonkeyPatch.context() as environment:
        traces = {
            "ORBWEAVER_TRACES_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY": "0",
        }
        for name, value in traces.items():
            environment.setenv(name, value)
        with Laboratory(coordinator=COORDINATOR) as lab:
            lab.controller = LabController(
                lab.identity,
                lab.fabric.namespace,
                lab.directory / "controller",
                lab.etcd.endpoint,
            )
            lab.controller.start()
            applied = lab.orbctl("apply", "-f", "-", stdin=f"{POOL}---{POD}")
            assert applied.returncode == 0, applied.stderr
            node = lab.node("node-a")
            deleted_pod, reclaimed_pod = lab.sandbox("web-0"), lab.sandbox("web-1")
            with pytest.raises(CniFailed):
                # The runtime executes ifacer.
                node.runtime.add_vlan(deleted_pod, "missing0", vlan=77)
            node.runtime.add(deleted_pod)
            node.runtime.check(deleted_pod)
            node.runtime.status()
            node.runtime.collect_garbage()
            node.runtime.delete(deleted_pod)
            node.runtime.variables = RUNTIME_VARIABLES
            node.runtime.add(reclaimed_pod)
            lab.controller.wait_following_pods()
            assert lab.orbctl("delete", "-f", "-", stdin=POD).returncode == 0
            wait_until(
                lambda: any(span.name == RECLAIM_END for span in receiver.spans),
                f"the span {RECLAIM_END}",
            )
            node.agent.stop()
            lab.controller.process.stop()
            logs = (node.plugin_log, node.directory / "coordinator.log")
            lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        yield Recorded(receiver.spans, lines)


def test_an_add_is_one_trace_from_the_runtime_to_netlink(recorded: Recorded) -> None:
    spans = [span for span in recorded.spans if span.trace_id == TRACE_ID]

    assert tree(spans) == documented("CNI ADD  server")
    assert {span.trace_state for span in spans} == {"vendor=1"}
    assert not any(span.failed for span in spans)
    (transaction,) = (span for span in spans if span.name == "Txn")
    assert transaction.attributes == {
        "db.system.name": "etcd",
        "db.operation.name": "Txn",
        "server.address": "192.0.2.1",
        "server.port": 2379,
    }
    sends = [span.attributes["netlink.requests"] for span in spans if span.name == "netlink send"]
    assert any("add veth pair" in request for requests in sends for request in requests)


def test_other_cni_commands_have_the_documented_spans(recorded: Recorded) -> None:
    commands = ("CHECK", "CHECK coordinator", "STATUS", "GC", "GC coordinator")
    names = [f"CNI {command}" for command in (*commands, "DEL coordinator", "DEL")]

    status = recorded.one("CNI STATUS")
    # STATUS probes etcd only if the last probe is older than a second: leave out these spans.
    spans_without_probe = [
        span
        for span in recorded.spans
        if span.parent_id != status.span_id or span.name not in ("Range", "Status")
    ]

    assert recorded._replace(spans=spans_without_probe).trees(*names) == documented("CNI CHECK")


def test_a_del_links_to_the_add_of_its_addresses(recorded: Recorded) -> None:
    release = recorded.one("ipam.release")
    (link,) = release.links
    claims = [span for span in recorded.spans if span.name == "ipam.allocate"]
    (claim_span,) = (span for span in claims if span.trace_id != TRACE_ID and not span.failed)

    assert release.trace_id == recorded.one("CNI DEL").trace_id != claim_span.trace_id
    assert (link.trace_id, link.span_id) == (claim_span.trace_id, claim_span.span_id)
    assert link.attributes["ipam.link"] == "claimed-by"
    assert link.attributes["k8s.pod.name"] == "web-0"
    assert link.attributes["ipam.pool.name"] == "lan"
    assert link.attributes["ipam.event.id"]


def test_spans_of_a_failed_add_have_the_documented_errors(recorded: Recorded) -> None:
    assert recorded.trees("CNI ADD ifacer") == documented("CNI ADD ifacer")


def test_a_reclaim_is_one_trace_and_links_to_the_add(recorded: Recorded) -> None:
    start = recorded.one("StartWorkflow:reclaim-pod")
    trace_spans = [span for span in recorded.spans if span.trace_id == start.trace_id]
    (attempt,) = (span for span in trace_spans if span.name == "RunActivity:reclaim-pod")
    # Names such as StartWorkflow:NAME.
    workflow_spans = [span for span in trace_spans if ":" in span.name]

    assert tree(workflow_spans) == documented("StartWorkflow")
    assert {span.name for span in trace_spans if span.parent_id == attempt.span_id} >= {
        "Txn",
        "Range",
        "ipam.append",
    }
    (link,) = start.links
    claims = [span for span in recorded.spans if span.name == "ipam.allocate"]
    (claim_span,) = (span for span in claims if span.trace_id == TRACE_ID)
    assert (link.trace_id, link.span_id) == (TRACE_ID, claim_span.span_id)
    assert link.attributes["ipam.link"] == "claimed-by"
    assert link.attributes["k8s.pod.name"] == "web-1"
    assert link.attributes["ipam.event.id"]


def test_an_orbctl_command_is_one_trace(recorded: Recorded) -> None:
    start = recorded.one("orbctl apply")
    commands = [
        span
        for span in recorded.spans
        if span.trace_id == start.trace_id
        and (span.name in ("orbctl apply", "ipam.append") or "ApplyPool" in span.name)
    ]
    (apply_pool,) = (span for span in commands if "ApplyPool" in span.name)
    pool_spans = [
        span
        for span in commands
        if span.name != "ipam.append" or span.parent_id == apply_pool.span_id
    ]

    assert tree(pool_spans) == documented("orbctl apply")
    assert start.attributes == {"process.exit.code": 0}


def test_resources_have_service_version_and_instance(recorded: Recorded) -> None:
    resources = {
        span.resource["service.name"]: (
            span.resource["service.version"],
            span.resource.get("k8s.node.name"),
            span.resource["service.instance.id"].split("-")[0],
        )
        for span in recorded.spans
        if span.resource["service.name"] != "orbctl"
    }

    assert resources == {
        "orbweaver-agent": (__version__, "node-a", "node"),
        "orbweaver-controller": (__version__, None, "controller"),
    }


def test_plugin_log_lines_have_the_ids_of_their_spans(recorded: Recorded) -> None:
    roots = {
        (span.trace_id, span.span_id)
        for span in recorded.spans
        if span.attributes.get("cni.plugin") in ("spiderpool", "coordinator")
    }

    assert {(line["trace_id"], line["span_id"]) for line in recorded.lines} == roots


def test_other_attributes_come_from_opentelemetry_conventions(recorded: Recorded) -> None:
    names = {
        name for span in recorded.spans for name in span.attributes if not OWN_ATTRIBUTE.match(name)
    }

    assert names <= semantic_conventions()
    assert SCHEMA_URL.rpartition("/")[2] in PAGE.read_text()


def documented(first: str) -> str:
    """The block of docs/reference/traces.md that begins with this text."""
    blocks = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(first))
    return str(block)


def semantic_conventions() -> set[str]:
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (attributes, incubating)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    values = (value for module in modules for value in vars(module).values())
    return {value for value in values if isinstance(value, str)}
