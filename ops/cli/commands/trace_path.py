"""``orbctl trace-path``: shows which rules and routes the kernel uses for packets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from core.domain.addresses.ip_address import (
    Address,
    AddressSyntaxError,
    format_address,
    parse_address,
)
from core.errors import BadInput, NotFound
from nodeagent.clusterip.bpf_installation import served_frontends
from nodeagent.clusterip.frontends import PROTOCOLS as PROTOCOL_NUMBERS
from nodeagent.clusterip.frontends import BackendGroup, Frontend, address_bytes, address_text
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from ops.cli.action_runner import PodNamespace, perform
from ops.cli.commands.release import find_endpoint
from ops.cli.formats import Output
from ops.cli.global_options import globals_of
from ops.cli.output import TableColumn, print_heading, show_table, show_value
from ops.diagnostics.paths.path_trace import PathHop, PathLeg, legs
from ops.diagnostics.paths.route_lookup import (
    Stack,
    namespace_of,
    route_text,
    rule_text,
    table_name,
)

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

COLUMNS: Final = tuple(
    map(TableColumn, ("LEG", "STACK", "PACKET", "RULE", "TABLE", "ROUTE", "NEIGHBOUR"))
)
PROTOCOLS: Final = ("tcp", "udp")
PORT_MAX: Final = 65_535
SOCKET_PATH: Final = "/var/run/spidernet/spiderpool.sock"
BPFFS: Final = "/sys/fs/bpf"


class TraceTarget(NamedTuple):
    """A destination; ``port`` 0 means any port."""

    address: Address
    port: int = 0

    def __str__(self) -> str:
        text = format_address(*self.address)
        if not self.port:
            return text
        return f"[{text}]:{self.port}" if self.address.family == 6 else f"{text}:{self.port}"


class Traced(NamedTuple):
    """The paths for one target. ``cluster_ip_text`` is "" if the target is not a ClusterIP."""

    target: TraceTarget
    cluster_ip_text: str
    legs: list[PathLeg]


def trace_path(
    context: typer.Context,
    pod: Annotated[str, typer.Argument(help="a Pod of this node: NAME or NAMESPACE/NAME")],
    destination: Annotated[
        str, typer.Argument(help="ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT, or a Pod")
    ],
    namespace: PodNamespace = "default",
    netns: Annotated[
        str,
        typer.Option(
            "--netns",
            help="path of the Pod's network namespace; default: from the agent's records",
        ),
    ] = "",
    protocol: Annotated[str, typer.Option("--protocol", help="protocol: tcp or udp")] = "tcp",
    socket: Annotated[
        str,
        typer.Option(
            "--socket", envvar="ORBWEAVER_SOCKET_PATH", help="socket of this node's agent"
        ),
    ] = SOCKET_PATH,
    bpffs: Annotated[
        str,
        typer.Option(
            "--bpffs",
            envvar="ORBWEAVER_CLUSTER_IP_BPFFS",
            help="directory of pinned eBPF maps (ClusterIP)",
        ),
    ] = BPFFS,
) -> None:
    """Show rules and routes of a Pod's packets.

    The command looks up rules and routes in the kernel and sends no packets. It must run as root
    on the Pod's node; as the kubectl plugin, it runs in the Pod of that node's agent. With --netns
    and an address, it needs no etcd.

    Examples:
      orbctl trace-path shop/web-0 10.6.0.1
      orbctl trace-path shop/web-0 10.96.0.10:80 --protocol tcp
      kubectl orb trace-path shop/web-0 shop/web-1
    """
    if os.geteuid():
        raise BadInput(
            "trace-path requires root to enter the Pod's network namespace",
            subject="trace-path",
            remedy="use sudo",
        )
    if protocol not in PROTOCOLS:
        raise BadInput(
            f"--protocol {protocol[:64]!r} is neither tcp nor udp",
            subject="--protocol",
            remedy="use tcp or udp",
        )
    target = _target(destination)
    if netns and target is not None:
        _print_traces(context, pod, netns, [target], protocol, bpffs)
        return

    async def action(session: ClusterSession) -> None:
        path = netns or await _netns_path(session, pod, namespace, socket)
        targets = [target] if target else await _targets_of_pod(session, destination, namespace)
        _print_traces(context, pod, path, targets, protocol, bpffs)

    perform(context, action)


def _target(text: str) -> TraceTarget | None:
    """An address with an optional port; None for the name of a Pod. Raises BadInput."""
    host, _, port = text.rpartition(":")
    has_port = host.startswith("[") or "." in host
    try:
        address = parse_address((host if has_port else text).strip("[]"))
    except AddressSyntaxError:
        return None
    if not has_port:
        return TraceTarget(address)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= PORT_MAX):
        raise BadInput(
            f"{port[:16]!r} is not a port",
            subject=text,
            remedy=f"use a number from 1 to {PORT_MAX}",
        )
    return TraceTarget(address, int(port))


async def _netns_path(session: ClusterSession, pod: str, namespace: str, socket: str) -> str:
    endpoint = await find_endpoint(session, pod, namespace)
    containers = {nic.container for nic in endpoint.nics if nic.container}
    # The coordinator's attachment records are next to the agent's socket.
    records = Path(socket).with_name("datapath")
    return namespace_of(f"{endpoint.namespace}/{endpoint.name}", containers, records)


async def _targets_of_pod(session: ClusterSession, pod: str, namespace: str) -> list[TraceTarget]:
    endpoint = await find_endpoint(session, pod, namespace)
    targets = [TraceTarget(parse_address(address)) for address, _ in endpoint.addresses()]
    if not targets:
        raise NotFound(
            f"Pod {endpoint.namespace}/{endpoint.name} has no addresses",
            subject=pod,
            remedy="pass an address as the destination",
        )
    return targets


def _print_traces(
    context: typer.Context,
    pod: str,
    netns: str,
    targets: list[TraceTarget],
    protocol: str,
    bpffs: str,
) -> None:
    traces = _trace_targets(pod, netns, targets, protocol, bpffs)
    output = globals_of(context).output
    if output.is_structured:
        show_value(
            {"pod": pod, "netns": netns, "paths": [_plain(traced) for traced in traces]}, output
        )
        return
    for traced in traces:
        _show(pod, traced, output)


def _trace_targets(
    pod: str, netns: str, targets: list[TraceTarget], protocol: str, bpffs: str
) -> list[Traced]:
    executor = NetnsExecutor()
    try:
        with (
            NetworkNamespace.open(netns) as pod_namespace,
            executor.session(pod_namespace) as in_pod,
            executor.session(executor.own_namespace) as on_node,
        ):
            stacks = Stack(pod, in_pod), Stack("node", on_node)
            frontends = served_frontends(Path(bpffs))
            traces = []
            for target in targets:
                cluster_ip_text, address = _destination(target, protocol, frontends)
                traces.append(Traced(target, cluster_ip_text, legs(*stacks, address)))
            return traces
    finally:
        executor.close()


def _destination(
    target: TraceTarget, protocol: str, frontends: dict[Frontend, BackendGroup]
) -> tuple[str, Address]:
    """``Traced.cluster_ip_text``, and the destination: for a ClusterIP, one of its backends."""
    address = address_bytes(format_address(*target.address))
    protocol_number = PROTOCOL_NUMBERS[protocol.upper()]
    for frontend in sorted(frontends):
        matches = (frontend.address, frontend.protocol) == (address, protocol_number)
        if not matches or target.port not in (0, frontend.port):
            continue
        backends = frontends[frontend].backends
        service = f"ClusterIP port {frontend.port}/{protocol.upper()}"
        if not backends:
            return f"{service} has no backends: connections are refused", target.address
        others = f"one of {len(backends)} backends" if len(backends) > 1 else "the only backend"
        text = f"{service}: sockets connect to {backends[0]}, {others}"
        return text, parse_address(address_text(backends[0].address))
    return "", target.address


def _show(pod: str, traced: Traced, output: Output) -> None:
    print_heading(f"{pod} → {traced.target}")
    if traced.cluster_ip_text:
        print(traced.cluster_ip_text)
    rows = [_row(leg, hop) for leg in traced.legs for hop in leg.hops]
    show_table(COLUMNS, rows, output)
    for leg in traced.legs:
        print(f"{leg.name}: {leg.end}")


def _row(leg: PathLeg, hop: PathHop) -> tuple[str, ...]:
    answer = hop.answer
    table = table_name(answer.route.table) if answer.route else "-"
    route = route_text(answer) or answer.why_not
    rule, neighbour = rule_text(answer.rule) or "-", answer.neighbour or "-"
    return leg.name, hop.stack, hop.packet, rule, table, route, neighbour


def _plain(traced: Traced) -> dict[str, Any]:
    names = [column.title.lower() for column in COLUMNS[1:]]
    return {
        "destination": str(traced.target),
        "clusterIP": traced.cluster_ip_text,
        "legs": [
            {
                "name": leg.name,
                "end": leg.end,
                "stops": [dict(zip(names, _row(leg, hop)[1:], strict=True)) for hop in leg.hops],
            }
            for leg in traced.legs
        ],
    }
