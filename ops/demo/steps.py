"""The steps of the demo, in order. Each may raise DemoFailed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Final

from ops.demo.datapath import reach_node, serve
from ops.demo.demo_output import expect
from ops.demo.demo_state import DEMO_NAMESPACE, DemoState
from ops.lab.http import json_of
from ops.lab.node import Node
from ops.lab.runtime import CniFailed
from ops.lab.sandbox import Sandbox, addresses_in

CRASH_PODS: Final = 10
CONCURRENT_ADDS: Final = 5
LOST_PODS: Final = 3
"""Pods on node-b when it dies: web-2, db-0 and refunds."""

WORKFLOW_S_MAX: Final = 20.0

CART_SETTLED: Final = re.compile(r"cart +Deployment +9 +1 +10 +1 +settled")
"""A row of `orbctl get applications`: 9 replicas, 1 pool, 10 addresses, 1 held."""

AGENT: Final = "SPIDERPOOL_NODE_NAME={} ORBWEAVER_ETCD_ENDPOINTS={} ... orbweaver-agent"
TRY_AGAIN_LATER: Final = 11
POOL_FULL: Final = 110
"""CNI error codes of docs/reference/agent.md."""


def start(state: DemoState) -> None:
    """Start etcd and two nodes."""
    printer, laboratory = state.printer, state.laboratory
    printer.step(
        "Two nodes on one network",
        """A bridge, an etcd and two nodes, each in a network namespace of its own; every node runs
        an agent, and has Debian's macvlan beside the plugins of Orbweaver.""",
    )
    for identity in laboratory.removed_laboratories:
        printer.say(f"(Removed the laboratory of an interrupted run: {identity}.)")
    printer.command(
        f"etcd --listen-client-urls http://{laboratory.etcd.endpoint} ...", place="etcd"
    )
    # No step before ``lose_node`` needs the controller (I8 of docs/contributing/architecture.md).
    laboratory.controller.start()
    rows = []
    for name in ("node-a", "node-b"):
        printer.command(AGENT.format(name, laboratory.etcd.endpoint), place=name)
        began = time.monotonic()
        node = laboratory.node(name)
        duration = f"{time.monotonic() - began:.1f} s"
        rows.append((name, node.address, node.namespace.name, str(node.agent.pid), duration))
    printer.table(("NODE", "ADDRESS", "NAMESPACE", "AGENT", "READY AFTER"), rows)


def apply(state: DemoState) -> None:
    """Apply the custom resources."""
    state.printer.step(
        "Pools",
        """The YAML of the custom resources: pools of both families, a pool of the three addresses
        that a firewall accepts, and a reservation of one of the three.""",
    )
    state.orbctl("apply -f ops/demo/pools.yaml -f ops/demo/pods.yaml")
    state.orbctl("get pools")


def attach(state: DemoState) -> None:
    """Attach Pods on both nodes."""
    printer = state.printer
    printer.step(
        "Pods that reach each other",
        """The container runtime executes macvlan, macvlan executes spiderpool, and spiderpool sends
        the request to the agent. One transaction in etcd claims both addresses.""",
    )
    placed = [("web-0", state.node_a), ("web-1", state.node_a), ("web-2", state.node_b)]
    state.show_call(state.node_a, "ADD", "CNI_ARGS='K8S_POD_NAME=web-0;...' CNI_NETNS=...")
    rows = []
    for pod, node in placed:
        began = time.monotonic()
        sandbox = state.attach(node, pod)
        duration = f"{(time.monotonic() - began) * 1000:.0f} ms"
        rows.append((pod, node.name, *sandbox.addresses, duration))
    printer.table(("POD", "NODE", "IPV4", "IPV6", "ADD TOOK"), rows)
    ipv4, ipv6 = state.pods["web-2"].addresses
    printer.command(f"ping {ipv4}; ping {ipv6}; ping 10.6.0.1", place="web-0")
    answers = [(address, state.pinged("web-0", address)) for address in (ipv4, ipv6, "10.6.0.1")]
    web_0 = state.pods["web-0"].addresses
    answers += [(f"{address} from web-2", state.pinged("web-2", address)) for address in web_0]
    printer.table(("PING", "ANSWERED AFTER"), answers)
    reach_node(state)


def keep_addresses(state: DemoState) -> None:
    """Restart a StatefulSet's Pod on another node."""
    printer = state.printer
    printer.step(
        "A StatefulSet's Pod keeps its addresses",
        """db-0 is deleted on node-a and starts again on node-b. It has another sandbox and another
        UID, but the same addresses, because a record names a StatefulSet as its owner.""",
    )
    first = state.attach(state.node_a, "db-0")
    state.show_call(state.node_a, "DEL", f"CNI_CONTAINERID={first.container[:12]}...")
    state.node_a.runtime.delete(first)
    first.destroy()
    state.show_call(state.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=db-0;...'")
    second = state.attach(state.node_b, "db-0")
    expect(
        second.addresses == first.addresses, f"db-0 had {first.addresses}, has {second.addresses}"
    )
    rows = [
        (place, sandbox.uid[:8], sandbox.container[:12], *sandbox.addresses)
        for place, sandbox in (("before, node-a", first), ("after, node-b", second))
    ]
    printer.table(("DB-0", "UID", "CONTAINER", "IPV4", "IPV6"), rows)
    state.pinged("web-0", second.addresses[0])


def kill_agent(state: DemoState) -> None:
    """Kill an agent while it serves ADDs."""
    printer, node = state.printer, state.node_a
    printer.step(
        "An agent is killed in the middle of ADDs",
        f"""{CRASH_PODS} Pods start concurrently on node-a; its agent is killed after the first ADD.
        The runtime creates a new sandbox for each Pod that failed, and deletes the old sandbox
        later.""",
    )
    sandboxes = [state.create_sandbox(f"batch-{number}") for number in range(CRASH_PODS)]
    state.show_call(node, "ADD", f"CNI_ARGS='K8S_POD_NAME=batch-{{0..{CRASH_PODS - 1}}};...'")
    printer.command("kill -9 $(pidof orbweaver-agent)", place=node.name)
    failures = _add_and_kill(node, sandboxes)
    expect(failures, "no ADD failed, although the agent was killed after the first one")
    committed = state.endpoints()
    message = next(iter(failures.values())).message
    printer.output(f"{len(failures)} of {CRASH_PODS} failed: {message}", style="yellow")
    unanswered = sum(pod in committed for pod in failures)
    printer.say(f"Of these ADDs, {unanswered} were committed: only the answers were lost.")
    printer.command(AGENT.format(node.name, state.laboratory.etcd.endpoint), place=node.name)
    node.start_agent()
    for sandbox in sandboxes:
        if sandbox.pod in failures:
            state.replace(node, sandbox)
        else:
            # Calls only the IPAM plugin: macvlan would fail, because the interface exists.
            repeated = addresses_in(node.runtime.allocate(sandbox))
            expect(repeated == sandbox.addresses, f"a repeated ADD returned {repeated}")
    after = state.endpoints()
    for pod in (sandbox.pod for sandbox in sandboxes):
        before = committed.get(pod, after[pod])
        expect(before == after[pod], f"{pod} had {before}, has {after[pod]}")
        expect(
            sorted(state.pods[pod].addresses) == after[pod],
            f"{pod} does not have the addresses that etcd has: {after[pod]}",
        )
    addresses = [address for sandbox in sandboxes for address in after[sandbox.pod]]
    expect(len(set(addresses)) == 2 * CRASH_PODS, f"addresses were allocated twice: {addresses}")
    text = f"{CRASH_PODS} Pods hold {len(addresses)} different addresses"
    kept = "Pods with a claim before the restart hold the same addresses"
    printer.output(f"{text}. {kept}", style="green")


def fill_pool(state: DemoState) -> None:
    """Show the error of a full pool."""
    printer = state.printer
    printer.step(
        "A full pool, and why a Pod fails",
        """db-0 has one of the three addresses, payments gets another, the third is reserved. So the
        ADD of refunds fails. The error names the pool; `describe` shows the holders of its
        addresses; `explain` shows the result of every rule.""",
    )
    state.attach(state.node_a, "payments")
    refunds = state.create_sandbox("refunds")
    state.show_call(state.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=refunds;...'")
    error = state.failing_add(state.node_b, refunds)
    expect(error.code == POOL_FULL, f"the ADD of refunds: expected code {POOL_FULL}, got {error}")
    printer.output(str(error), style="yellow")
    state.orbctl("describe pool firewalled-v4")
    state.orbctl(f"explain {DEMO_NAMESPACE}/refunds --node node-b", code=3)


def lose_del(state: DemoState) -> None:
    """Lose a DEL."""
    printer = state.printer
    printer.step(
        "A lost DEL",
        """The network namespace of payments disappears without a DEL, so its addresses leak. A CNI
        GC lists the attachments that the runtime still has. The agent releases the others, and
        refunds gets an address.""",
    )
    state.store_time()
    payments, refunds = state.pods["payments"], state.pods["refunds"]
    printer.command(f"ip netns delete {payments.namespace.name}")
    payments.destroy()
    state.node_a.runtime.forget(payments)
    state.orbctl(f"get endpoint payments -n {DEMO_NAMESPACE}")
    state.show_call(state.node_a, "GC", "", plugin="spiderpool")
    before = set(state.endpoints())
    state.node_a.runtime.collect_garbage()
    reclaimed = before - set(state.endpoints())
    expect(reclaimed == {"payments"}, f"GC must reclaim payments only, but reclaimed {reclaimed}")
    state.show_call(state.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=refunds;...'")
    refunds = state.replace(state.node_b, refunds)
    text = (
        f"refunds got {refunds.addresses[0]}, not the address {payments.addresses[0]} of payments"
    )
    expect(refunds.addresses[0] == payments.addresses[0], text)
    printer.table(("POD", "NODE", "IPV4", "IPV6"), [("refunds", "node-b", *refunds.addresses)])
    state.pinged("web-0", refunds.addresses[0])


def lose_node(state: DemoState) -> None:
    """Lose a node."""
    printer, laboratory = state.printer, state.laboratory
    printer.step(
        "A lost node, and the workflows that release its addresses",
        """node-b dies with its agent and all its Pods, so no DEL will arrive. An operator deletes
        the record of the node. The controller, which no step needed until now, follows the log and
        starts a durable execution for every Pod of the node. StatefulSets keep their addresses.""",
    )
    printer.command("kill -9 $(pidof orbweaver-agent)", place="node-b")
    printer.command(f"ip netns delete {state.node_b.namespace.name}")
    laboratory.lose("node-b")
    laboratory.controller.wait_following_pods()
    state.orbctl("delete node node-b")
    began = time.monotonic()
    listing = "workflow list --type reclaim-pod"
    output = ""
    while output.count(" Completed ") < LOST_PODS:
        expect(
            time.monotonic() - began < WORKFLOW_S_MAX,
            f"the addresses of node-b's Pods are not reclaimed within {WORKFLOW_S_MAX:g} s",
        )
        output = state.run_quietly(listing)
    printer.command(f"orbctl {listing}")
    printer.output(output)
    web, db = state.pods["web-2"], state.pods["db-0"]
    output = state.orbctl(f"workflow history reclaim/{DEMO_NAMESPACE}/web-2/{web.uid}")
    expect(
        web.addresses[0] in output,
        f"the execution of web-2 does not report the release of {web.addresses[0]}",
    )
    printer.say(
        "db-0 still belongs to the StatefulSet: it starts on node-a, with the same addresses."
    )
    restarted = state.attach(state.node_a, "db-0")
    expect(
        restarted.addresses == db.addresses,
        f"db-0 had {db.addresses}, has {restarted.addresses}",
    )
    printer.table(("POD", "NODE", "IPV4", "IPV6"), [("db-0", "node-a", *restarted.addresses)])


def scale(state: DemoState) -> None:
    """Scale an application."""
    printer = state.printer
    printer.step(
        "A pool that follows its application",
        """A subnet is applied for the network; the pools above belong to it. The Deployment cart
        requests a pool with one address more than it has replicas. A durable execution creates the
        pool, and enlarges it when cart is scaled.""",
    )
    state.orbctl("apply -f ops/demo/subnet.yaml -f ops/demo/cart.yaml")
    cart = state.attach(state.node_a, "cart-1")
    printer.table(("POD", "NODE", "IPV4"), [("cart-1", "node-a", *cart.addresses[:1])])
    state.orbctl(f"get applications -n {DEMO_NAMESPACE}")
    state.apply_with("ops/demo/cart.yaml", {"replicas: 3": "replicas: 9"})
    began = time.monotonic()
    while CART_SETTLED.search(state.run_quietly(f"get applications -n {DEMO_NAMESPACE}")) is None:
        expect(
            time.monotonic() - began < WORKFLOW_S_MAX,
            f"the pool of cart does not have 10 addresses within {WORKFLOW_S_MAX:g} s",
        )
    state.orbctl("describe subnet lan")


def ask_log(state: DemoState) -> None:
    """Query the log."""
    printer = state.printer
    printer.step(
        "Queries of the log",
        "Who held that address, and when? Do the state keys in etcd agree with the log?",
    )
    address = state.pods["refunds"].addresses[0]
    output = state.orbctl(f"history {address}")
    expect(
        "payments" in output and "refunds" in output,
        f"orbctl history {address} lacks payments or refunds",
    )
    output = state.orbctl(f"as-of {state.stored_time} address {address}")
    expect("payments" in output, "orbctl as-of does not name payments")
    state.orbctl("verify")


def predict(state: DemoState) -> None:
    """Forecast from a short log."""
    state.printer.step(
        "When is a pool full?",
        """orbctl forecasts from the growth in the last weeks of the log. This log has only some
        minutes, so there is no forecast yet, and the output says why.""",
    )
    output = state.orbctl("forecast")
    expect("the history is shorter than a day" in output, "orbctl forecast used a short history")


def browse(state: DemoState) -> None:
    """Open the console."""
    printer, address = state.printer, state.pods["refunds"].addresses[0]
    printer.step(
        "The same in a browser",
        """The console shows pools, addresses, Pods, workflows and events. Its slider selects any
        state since the first step. Its pages use an API that other programs can use too.""",
    )
    printer.command("orbctl console &")
    url = state.laboratory.console()
    printer.output(f"console: {url}", style="green")
    path = f"api/v1/addresses/{address}?at={state.stored_time}"
    printer.command(f"curl -s '{url}{path}' | jq -r .holding.pod")
    holder = json_of(url + path)["holding"]["pod"]
    expect(holder == "payments", f"the console names {holder} as the holder, not payments")
    printer.output(holder)
    printer.say("`make demo ARGS=--stay` keeps the console running until you press Enter.")


DEMO_STEPS: Final[tuple[Callable[[DemoState], None], ...]] = (
    start,
    apply,
    attach,
    serve,
    keep_addresses,
    kill_agent,
    fill_pool,
    lose_del,
    lose_node,
    scale,
    ask_log,
    predict,
    browse,
)


def _add_and_kill(node: Node, sandboxes: list[Sandbox]) -> dict[str, CniFailed]:
    """Kill the agent after the first of concurrent ADDs; return the errors by Pod."""
    with ThreadPoolExecutor(CONCURRENT_ADDS) as threads:
        adds = {sandbox.pod: threads.submit(node.runtime.add, sandbox) for sandbox in sandboxes}
        wait(adds.values(), return_when=FIRST_COMPLETED)
        node.agent.kill()
    failures = {}
    for pod, outcome in adds.items():
        error = outcome.exception()
        if error is None:
            continue
        if not isinstance(error, CniFailed):
            raise error
        expect(
            error.code == TRY_AGAIN_LATER,
            f"the ADD of {pod}: expected code {TRY_AGAIN_LATER}, got {error}",
        )
        failures[pod] = error
    return failures
