"""The state that the steps of the demo share."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ops.demo.demo_output import DemoFailed, DemoOutput, expect
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.runtime import CniFailed
from ops.lab.sandbox import Sandbox

PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]

DEMO_NAMESPACE: Final = "shop"


class MissingCapability(NamedTuple):
    """The reasons why steps of the demo are skipped; "" for a step that can run.

    ``no_reply_marks``: why a Pod and its node cannot reach each other.
    """

    no_reply_marks: str = ""
    no_services: str = ""


class DemoState:
    """The state that the steps share. ``pods``: Pod -> its newest sandbox."""

    def __init__(
        self, printer: DemoOutput, laboratory: Laboratory, missing: MissingCapability
    ) -> None:
        self.printer = printer
        self.missing = missing
        self.laboratory = laboratory
        self.pods: dict[str, Sandbox] = {}
        self.stored_time = ""
        """The time of the last ``store_time``, ISO 8601."""

    @property
    def node_a(self) -> Node:
        """The first node."""
        return self.laboratory.nodes["node-a"]

    @property
    def node_b(self) -> Node:
        """The second node."""
        return self.laboratory.nodes["node-b"]

    def store_time(self) -> None:
        """Set ``stored_time`` to now, for later queries of the log."""
        seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        self.stored_time = f"{stamp}.{milliseconds:03}Z"

    def create_sandbox(self, pod: str) -> Sandbox:
        """Create a sandbox for a Pod. The caller must destroy its earlier sandbox first."""
        self.pods[pod] = self.laboratory.sandbox(pod, DEMO_NAMESPACE)
        return self.pods[pod]

    def replace(self, node: Node, failed: Sandbox) -> Sandbox:
        """Attach the Pod in a new sandbox, then delete the failed sandbox, as runtimes do."""
        failed.destroy()
        sandbox = self.laboratory.sandbox(failed.pod, DEMO_NAMESPACE, failed.uid)
        self.pods[failed.pod] = sandbox
        node.runtime.add(sandbox)
        node.runtime.delete(failed)
        _check_configured(sandbox)
        return sandbox

    def attach(self, node: Node, pod: str) -> Sandbox:
        """Create a Pod on a node and attach it. Raises CniFailed."""
        sandbox = self.create_sandbox(pod)
        node.runtime.add(sandbox)
        _check_configured(sandbox)
        return sandbox

    def show_call(self, node: Node, verb: str, variables: str, plugin: str = "macvlan") -> None:
        """Show how a runtime calls a plugin."""
        words = (f"CNI_COMMAND={verb}", variables, plugin, "<lab.conf")
        self.printer.command(" ".join(filter(None, words)), place=node.name)

    def failing_add(self, node: Node, sandbox: Sandbox) -> CniFailed:
        """Run an ADD that must fail; return its error."""
        try:
            node.runtime.add(sandbox)
        except CniFailed as error:
            return error
        raise DemoFailed(f"the ADD of {sandbox.pod} did not fail: it returned {sandbox.addresses}")

    def pinged(self, source: str, address: str) -> str:
        """Ping from a Pod; return the time. Raises DemoFailed."""
        milliseconds = self.pods[source].ping(address)
        expect(milliseconds is not None, f"{source} got no answer to a ping of {address}")
        return f"{milliseconds:.2f} ms"

    def pinged_from(self, node: Node, address: str) -> str:
        """Ping from a node; return the time. Raises DemoFailed."""
        milliseconds = node.namespace.ping(address)
        expect(milliseconds is not None, f"{node.name} got no answer to a ping of {address}")
        return f"{milliseconds:.2f} ms"

    def orbctl(self, line: str, *, code: int = 0) -> str:
        """Show and run an orbctl command that must end with ``code``; return its output."""
        self.printer.command(f"orbctl {line}")
        output = self.run_quietly(line, code=code)
        self.printer.output(output)
        return output

    def run_quietly(self, line: str, *, code: int = 0) -> str:
        """Run orbctl; return its output."""
        result = self.laboratory.orbctl(*shlex.split(line), directory=PROJECT_ROOT)
        output = result.stderr + result.stdout
        expect(result.returncode == code, f"orbctl {line}: exit code {result.returncode}\n{output}")
        return output

    def apply_with(self, path: str, replaced: Mapping[str, str]) -> None:
        """Apply a file; first replace each key of ``replaced`` by its value."""
        edits = ";".join(f"s/{before}/{after}/" for before, after in replaced.items())
        self.printer.command(f"sed '{edits}' {path} | orbctl apply -f -")
        text = (PROJECT_ROOT / path).read_text("utf-8")
        for before, after in replaced.items():
            text = text.replace(before, after)
        result = self.laboratory.orbctl("apply", "-f", "-", stdin=text)
        expect(result.returncode == 0, f"orbctl apply: {result.stderr}")
        self.printer.output(result.stdout)

    def endpoints(self) -> dict[str, list[str]]:
        """Pod -> its addresses in etcd."""
        document = json.loads(self.run_quietly(f"get endpoints -n {DEMO_NAMESPACE} -o json"))
        return {item["metadata"]["name"]: sorted(_addresses(item)) for item in document["items"]}


def _check_configured(sandbox: Sandbox) -> None:
    """Raise DemoFailed unless the interface has the addresses of the ADD."""
    added, configured = sandbox.addresses, sandbox.kernel_addresses()
    text = f"the ADD of {sandbox.pod} returned {added}, but its interface has {configured}"
    expect(sorted(added) == sorted(configured), text)


def _addresses(endpoint: dict[str, Any]) -> list[str]:
    nics = endpoint["status"]["current"]["ips"]
    texts = [nic.get(family, "") for nic in nics for family in ("ipv4", "ipv6")]
    return [address.partition("/")[0] for address in texts if address]
