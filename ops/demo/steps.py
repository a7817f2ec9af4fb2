"""The steps of the demo, in order; each says what it shows and fails if it does not come out so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Final

from ops.demo.datapath import meet_the_node, serve
from ops.demo.demo_output import expect
from ops.demo.demo_state import NAMESPACE, DemoState
from ops.lab.node import Node
from ops.lab.runtime import CniFailed
from ops.lab.sandbox import Sandbox, addresses_in

CRASH_PODS: Final = 10
CRASH_AT_ONCE: Final = 5
LOST_PODS: Final = 3
"""On node-b when it dies: web-2, db-0 and refunds."""

RECLAIM_S_MAX: Final = 20.0
CART_SETTLED: Final = re.compile(r"cart +Deployment +9 +1 +10 +1 +settled")
AGENT: Final = "SPIDERPOOL_NODE_NAME={} ORBWEAVER_ETCD_ENDPOINTS={} ... orbweaver-agent"
TRY_AGAIN_LATER: Final = 11
USED_OUT: Final = 110
"""Codes of CNI errors (docs/reference/agent.md)."""


def start(scene: DemoState) -> None:
    """Etcd and two nodes."""
    stage, laboratory = scene.stage, scene.laboratory
    stage.step(
        "Two nodes on one network",
        """A bridge, an etcd and two nodes, each in a network namespace of its own; every node runs
        an agent, and has Debian's macvlan beside the plugins of Orbweaver.""",
    )
    for identity in laboratory.predecessors:
        stage.say(f"(Removed what an interrupted run left behind: {identity}.)")
    stage.command(f"etcd --listen-client-urls http://{laboratory.etcd.endpoint} ...", place="etcd")
    # Nobody waits for it before a node is lost: Pods need none (I8).
    laboratory.controller.start()
    rows = []
    for name in ("node-a", "node-b"):
        stage.command(AGENT.format(name, laboratory.etcd.endpoint), place=name)
        began = time.monotonic()
        node = laboratory.node(name)
        took = f"{time.monotonic() - began:.1f} s"
        rows.append((name, node.address, node.namespace.name, str(node.agent.pid), took))
    stage.table(("NODE", "ADDRESS", "NAMESPACE", "AGENT", "READY AFTER"), rows)


def apply(scene: DemoState) -> None:
    """Pools, a reservation, and what Pods ask for."""
    scene.stage.step(
        "Pools",
        """The same YAML as the custom resources: pools of both families, a pool of three addresses
        that a firewall lets through, and a reservation of one of the three.""",
    )
    scene.orbctl("apply -f ops/demo/pools.yaml -f ops/demo/pods.yaml")
    scene.orbctl("get pools")


def attach(scene: DemoState) -> None:
    """Pods of both nodes reach each other."""
    stage = scene.stage
    stage.step(
        "Pods that reach each other",
        """The container runtime executes macvlan, macvlan executes spiderpool, and spiderpool sends
        the request to the agent. One transaction in etcd claims both addresses.""",
    )
    placed = [("web-0", scene.node_a), ("web-1", scene.node_a), ("web-2", scene.node_b)]
    scene.show_call(scene.node_a, "ADD", "CNI_ARGS='K8S_POD_NAME=web-0;...' CNI_NETNS=...")
    rows = []
    for pod, node in placed:
        began = time.monotonic()
        sandbox = scene.attach(node, pod)
        took = f"{(time.monotonic() - began) * 1000:.0f} ms"
        rows.append((pod, node.name, *sandbox.addresses, took))
    stage.table(("POD", "NODE", "IPV4", "IPV6", "ADD TOOK"), rows)
    four, six = scene.pods["web-2"].addresses
    stage.command(f"ping {four}; ping {six}; ping 10.6.0.1", place="web-0")
    answers = [(address, scene.pinged("web-0", address)) for address in (four, six, "10.6.0.1")]
    back = scene.pods["web-0"].addresses
    answers += [(f"{address} from web-2", scene.pinged("web-2", address)) for address in back]
    stage.table(("PING", "ANSWERED AFTER"), answers)
    meet_the_node(scene)


def keep(scene: DemoState) -> None:
    """A StatefulSet's replica keeps its addresses."""
    stage = scene.stage
    stage.step(
        "A StatefulSet's Pod keeps its addresses",
        """db-0 is deleted on node-a and comes back on node-b: another sandbox, another UID, the
        same addresses, because a record says that a StatefulSet owns it.""",
    )
    first = scene.attach(scene.node_a, "db-0")
    scene.show_call(scene.node_a, "DEL", f"CNI_CONTAINERID={first.container[:12]}...")
    scene.node_a.runtime.delete(first)
    first.destroy()
    scene.show_call(scene.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=db-0;...'")
    second = scene.attach(scene.node_b, "db-0")
    expect(
        second.addresses == first.addresses, f"db-0 had {first.addresses}, has {second.addresses}"
    )
    rows = [
        (place, sandbox.uid[:8], sandbox.container[:12], *sandbox.addresses)
        for place, sandbox in (("before, node-a", first), ("after, node-b", second))
    ]
    stage.table(("DB-0", "UID", "CONTAINER", "IPV4", "IPV6"), rows)
    scene.pinged("web-0", second.addresses[0])


def crash(scene: DemoState) -> None:
    """An agent is killed while it serves."""
    stage, node = scene.stage, scene.node_a
    stage.step(
        "An agent is killed in the middle of ADDs",
        f"""{CRASH_PODS} Pods at once on node-a; its agent gets a kill -9 after the first
        one. The runtime creates a new sandbox for each Pod that failed, and deletes the old one
        later.""",
    )
    sandboxes = [scene.make(f"batch-{number}") for number in range(CRASH_PODS)]
    scene.show_call(node, "ADD", f"CNI_ARGS='K8S_POD_NAME=batch-{{0..{CRASH_PODS - 1}}};...'")
    stage.command("kill -9 $(pidof orbweaver-agent)", place=node.name)
    failures = _add_and_kill(node, sandboxes)
    expect(failures, "no ADD failed although the agent was dead")
    committed = scene.endpoints()
    message = next(iter(failures.values())).message
    stage.output(f"{len(failures)} of {CRASH_PODS} failed: {message}", style="yellow")
    unheard = sum(pod in committed for pod in failures)
    stage.say(f"Committed although the answer was lost: {unheard} of them.")
    stage.command(AGENT.format(node.name, scene.laboratory.etcd.endpoint), place=node.name)
    node.start_agent()
    for sandbox in sandboxes:
        if sandbox.pod in failures:
            scene.replace(node, sandbox)
        else:
            again = addresses_in(node.runtime.allocate(sandbox))
            expect(again == sandbox.addresses, f"a repeated ADD answered {again}")
    after = scene.endpoints()
    for pod in (sandbox.pod for sandbox in sandboxes):
        before = committed.get(pod, after[pod])
        expect(before == after[pod], f"{pod} had {before}, has {after[pod]}")
        expect(sorted(scene.pods[pod].addresses) == after[pod], f"{pod} differs from etcd")
    held = [address for sandbox in sandboxes for address in after[sandbox.pod]]
    expect(len(set(held)) == 2 * CRASH_PODS, f"addresses given twice: {held}")
    text = f"{CRASH_PODS} Pods hold {len(held)} addresses, all different; what etcd had before the"
    stage.output(f"{text} restart is what they hold", style="green")


def refuse(scene: DemoState) -> None:
    """A full pool says why."""
    stage = scene.stage
    stage.step(
        "A full pool, and why a Pod fails",
        """db-0 has one of the three addresses, payments gets another, the third is reserved. The
        ADD of refunds fails. The error names the pool; describe shows its holders, and explain
        every rule of the selection.""",
    )
    scene.attach(scene.node_a, "payments")
    refunds = scene.make("refunds")
    scene.show_call(scene.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=refunds;...'")
    error = scene.refused(scene.node_b, refunds)
    expect(error.code == USED_OUT, f"refused for another reason: {error}")
    stage.output(str(error), style="yellow")
    scene.orbctl("describe pool firewalled-v4")
    scene.orbctl(f"explain {NAMESPACE}/refunds --node node-b", code=3)


def lose(scene: DemoState) -> None:
    """A lost DEL is made good."""
    stage = scene.stage
    stage.step(
        "A lost DEL",
        """The network namespace of payments disappears without a DEL, so its addresses leak. A CNI
        GC lists the attachments that the runtime still has. The agent releases the others, and
        refunds gets an address.""",
    )
    scene.remember()
    payments, refunds = scene.pods["payments"], scene.pods["refunds"]
    stage.command(f"ip netns delete {payments.namespace.name}")
    payments.destroy()
    scene.node_a.runtime.forget(payments)
    scene.orbctl(f"get endpoint payments -n {NAMESPACE}")
    scene.show_call(scene.node_a, "GC", "", plugin="spiderpool")
    before = set(scene.endpoints())
    scene.node_a.runtime.collect()
    gone = before - set(scene.endpoints())
    expect(gone == {"payments"}, f"GC has reclaimed {gone}")
    scene.show_call(scene.node_b, "ADD", "CNI_ARGS='K8S_POD_NAME=refunds;...'")
    refunds = scene.replace(scene.node_b, refunds)
    expect(refunds.addresses[0] == payments.addresses[0], "refunds got another address")
    stage.table(("POD", "NODE", "IPV4", "IPV6"), [("refunds", "node-b", *refunds.addresses)])
    scene.pinged("web-0", refunds.addresses[0])


def lose_node(scene: DemoState) -> None:
    """A node dies, and durable executions make its addresses free."""
    stage, laboratory = scene.stage, scene.laboratory
    stage.step(
        "A lost node, and the workflows that release its addresses",
        """node-b dies with its agent and all its Pods, so no DEL will arrive. An operator deletes
        the record of the node. The controller, which no step needed so far, follows the log and
        starts a durable execution for every Pod of the node. Addresses of a StatefulSet stay.""",
    )
    stage.command("kill -9 $(pidof orbweaver-agent)", place="node-b")
    stage.command(f"ip netns delete {scene.node_b.namespace.name}")
    laboratory.lose("node-b")
    laboratory.controller.wait_listening()
    scene.orbctl("delete node node-b")
    began = time.monotonic()
    listing = "workflow list --type reclaim-pod"
    said = ""
    while said.count(" Completed ") < LOST_PODS:
        expect(time.monotonic() - began < RECLAIM_S_MAX, "nobody reclaims what node-b had")
        said = scene.quiet(listing)
    stage.command(f"orbctl {listing}")
    stage.output(said)
    web, db = scene.pods["web-2"], scene.pods["db-0"]
    said = scene.orbctl(f"workflow history reclaim/{NAMESPACE}/web-2/{web.uid}")
    expect(web.addresses[0] in said, f"{web.addresses} are not free")
    stage.say(
        "db-0 still belongs to the StatefulSet: it starts on node-a, with the same addresses."
    )
    again = scene.attach(scene.node_a, "db-0")
    expect(again.addresses == db.addresses, f"db-0 had {db.addresses}, has {again.addresses}")
    stage.table(("POD", "NODE", "IPV4", "IPV6"), [("db-0", "node-a", *again.addresses)])


def scale(scene: DemoState) -> None:
    """An application gets a pool that follows its size."""
    stage = scene.stage
    stage.step(
        "A pool that follows its application",
        """The network becomes a subnet: the pools above are shares of it. The Deployment cart
        requests a pool with one address more than it has replicas. A durable execution creates
        the pool, and enlarges it when cart is scaled.""",
    )
    scene.orbctl("apply -f ops/demo/subnet.yaml -f ops/demo/cart.yaml")
    cart = scene.attach(scene.node_a, "cart-1")
    stage.table(("POD", "NODE", "IPV4"), [("cart-1", "node-a", *cart.addresses[:1])])
    scene.orbctl(f"get applications -n {NAMESPACE}")
    scene.apply_with("ops/demo/cart.yaml", {"replicas: 3": "replicas: 9"})
    began = time.monotonic()
    while CART_SETTLED.search(scene.quiet(f"get applications -n {NAMESPACE}")) is None:
        expect(time.monotonic() - began < RECLAIM_S_MAX, "the pool does not follow its application")
    scene.orbctl("describe subnet lan")


def look_back(scene: DemoState) -> None:
    """What the log knows."""
    stage = scene.stage
    stage.step(
        "Questions to the log",
        "Who held that address, and when? And does everything in etcd agree with the log?",
    )
    address = scene.pods["refunds"].addresses[0]
    said = scene.orbctl(f"history {address}")
    expect("payments" in said and "refunds" in said, "the history misses a holder")
    said = scene.orbctl(f"as-of {scene.remembered} address {address}")
    expect("payments" in said, "another holder is named")
    scene.orbctl("verify")


STEPS: Final[tuple[Callable[[DemoState], None], ...]] = (
    start,
    apply,
    attach,
    serve,
    keep,
    crash,
    refuse,
    lose,
    lose_node,
    scale,
    look_back,
)


def _add_and_kill(node: Node, sandboxes: list[Sandbox]) -> dict[str, CniFailed]:
    """Attach all at once and kill the agent after the first; which ones failed, and how."""
    with ThreadPoolExecutor(CRASH_AT_ONCE) as pool:
        tries = {one.pod: pool.submit(node.runtime.add, one) for one in sandboxes}
        wait(tries.values(), return_when=FIRST_COMPLETED)
        node.agent.kill()
    failures = {}
    for pod, outcome in tries.items():
        error = outcome.exception()
        if error is None:
            continue
        if not isinstance(error, CniFailed):
            raise error
        expect(error.code == TRY_AGAIN_LATER, f"an ADD failed otherwise: {error}")
        failures[pod] = error
    return failures
