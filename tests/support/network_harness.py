"""A small datacentre in network namespaces: a router, nodes, an outside host and Pods.

Pods get NICs like those of main plugins: a macvlan or a veth pair. The coordinator's engine runs in
the test's process.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from core.domain.model import Attachment
from nodeagent.coordinator.address_announcer import Announcer
from nodeagent.coordinator.attachment_engine import AttachRequest, AttachResult, Engine
from nodeagent.coordinator.attachment_records import AttachmentRecords
from nodeagent.coordinator.rdma_isolation import RdmaIsolation
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules, ReplyMarkRules
from nodeagent.coordinator.settings import (
    CoordinatorSettings,
    UnparsedSettings,
    effective_settings,
    read_settings,
)
from nodeagent.devices.pci_files import PciFiles
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, write_sysctls
from ops.lab.namespaces import NamedNamespace as Named
from ops.lab.programs import run
from tests.support.deadlines import wait_until
from tests.support.parts import needs

ANSWER_S: Final = 5.0
SERVICE_CIDRS: Final = ("10.96.0.0/16", "fd00:96::/112")
GATEWAY_ADDRESSES: Final = ("10.6.0.1/24", "fd00:6::1/64", "10.7.0.1/24", "fd00:7::1/64")
OUTSIDE_ADDRESSES: Final = ("198.51.100.2", "fd00:99::2")

ROUTER_SYSCTLS: Final = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}

FIRST_NICS: Final = ("eth0", "lan0")
CALICO_GATEWAY: Final = "169.254.1.1"
CALICO_MAC: Final = "ee:ee:ee:ee:ee:ee"


class NetworkPod:
    """A Pod's network namespace, with the coordinator's ADD, CHECK and DEL."""

    def __init__(self, node: NetworkNode, name: str) -> None:
        self.node = node
        self.container = secrets.token_hex(32)
        self.inside = node.network.namespace(name)

    @property
    def host_veth_name(self) -> str:
        return f"veth{self.container[:11]}"

    def require_iptables(self) -> str:
        """Return an iptables program that works with this kernel, or skip the test."""
        program = shutil.which("iptables-legacy") or "iptables"
        probe = self.inside.attempt(program, "-t", "mangle", "-S")
        if probe.returncode:
            pytest.skip(needs("iptables", probe.stderr))
        return program

    def macvlan(self, interface: str, *addresses: str, parent: str = "eth0") -> None:
        """Add a macvlan NIC with a default route via the first address of each network."""
        self.child(interface, "macvlan mode bridge", parent, *addresses)

    def child(self, interface: str, kind: str, parent: str, *addresses: str) -> None:
        """Add a NIC of a kind such as ``ipvlan mode l2``, with the routes of ``macvlan``."""
        temporary = f"m{secrets.token_hex(4)}"
        batch(
            self.node.inside,
            f"link add link {parent} name {temporary} type {kind}",
            f"link set {temporary} netns {self.inside.name} name {interface}",
        )
        # As main plugins do, give a second NIC a default route with a higher metric.
        metrics = {4: "", 6: ""}
        if interface not in FIRST_NICS:
            metrics = {4: "metric 100", 6: "metric 2048"}
        batch(
            self.inside,
            f"link set {interface} up",
            *(f"address add {address} dev {interface}{nodad(address)}" for address in addresses),
            *(
                f"route add default via {gateway_of(address)} dev {interface}"
                f" {metrics[6 if ':' in address else 4]}"
                for address in addresses
            ),
        )

    def calico(
        self, address: str, address6: str = "", prefix: str = "cali", nic: str = "eth0"
    ) -> None:
        """Add a veth pair as Calico does, with a /32 address and a gateway by proxy ARP."""
        host_veth_name = f"{prefix}{self.container[:11]}"
        batch(
            self.node.inside,
            f"link add {host_veth_name} address {CALICO_MAC} type veth"
            f" peer {nic} netns {self.inside.name}",
            f"link set {host_veth_name} up",
            f"route add {address}/32 dev {host_veth_name} scope link",
            *([f"address add fe80::ee/64 dev {host_veth_name} nodad"] if address6 else []),
            *([f"route add {address6}/128 dev {host_veth_name}"] if address6 else []),
        )
        self.node.network.set_sysctls(
            self.node.inside, {f"net/ipv4/conf/{host_veth_name}/proxy_arp": "1"}
        )
        batch(
            self.inside,
            f"link set {nic} up",
            f"address add {address}/32 dev {nic}",
            f"route add {CALICO_GATEWAY} dev {nic} scope link",
            f"route add default via {CALICO_GATEWAY} dev {nic}",
            *([f"address add {address6}/128 dev {nic} nodad"] if address6 else []),
            *([f"route add default via fe80::ee dev {nic}"] if address6 else []),
        )

    def attachment(self, interface: str = "eth0") -> Attachment:
        return Attachment(self.container, interface, "lab", str(self.inside.path))

    def add(self, interface: str = "eth0", *later_nics: str, **settings: Any) -> AttachResult:
        """Run the coordinator's ADD. ``later_nics``: NICs that the Pod gets later."""
        request = AttachRequest(
            self.attachment(interface),
            self.node.settings(**settings),
            expected_nics=frozenset(later_nics),
        )
        return self.node.engine.attach(request)

    def delete(self, interface: str = "eth0") -> bool:
        """Return whether the coordinator's DEL reverted an ADD."""
        return self.node.engine.detach(self.attachment(interface), first_nic="eth0")

    def check(self, interface: str = "eth0") -> list[str]:
        """Return the differences that the coordinator's CHECK finds."""
        return self.node.engine.find_differences(self.attachment(interface))

    def pings(self, address: str) -> bool:
        completed = self.inside.attempt("ping", "-n", "-c", "1", "-w", "5", address)
        return completed.returncode == 0


class NetworkNode:
    """A node's namespace with the coordinator's engine."""

    def __init__(self, network: NetworkHarness, name: str, number: int) -> None:
        self.network = network
        self.inside = network.namespace(name)
        port = f"to-{number}"
        self.addresses = (f"10.6.0.{10 + number}", f"fd00:6::{10 + number}")
        batch(
            network.fabric,
            f"link add {port} type veth peer eth0 netns {self.inside.name}",
            f"link set {port} master br0 up",
        )
        batch(
            self.inside,
            f"address add {self.addresses[0]}/24 dev eth0",
            f"address add {self.addresses[1]}/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.6.0.1",
            "route add default via fd00:6::1",
        )
        network.set_sysctls(self.inside, ROUTER_SYSCTLS | {"net/ipv4/conf/all/rp_filter": "0"})
        self.namespace = network.open_namespace(self.inside)
        self.records = AttachmentRecords(network.directory / name)
        self.cluster = UnparsedSettings()
        self.engine = self.engine_with(PreferredReplyMarkRules(network.executor))

    def engine_with(self, marks: ReplyMarkRules, rdma: RdmaIsolation | None = None) -> Engine:
        network = self.network
        return Engine(
            network.executor,
            node=self.namespace,
            reply_mark_rules=marks,
            records=self.records,
            announcer=network.announcer,
            random_bytes=os.urandom,
            rdma=rdma or RdmaIsolation(network.executor, self.namespace, PciFiles()),
        )

    def settings(self, **settings: Any) -> CoordinatorSettings:
        return effective_settings(read_settings(dict(settings)), self.cluster)

    def add_service(self, address: str, port: int, backend: str, backend_port: int) -> None:
        """Install kube-proxy's rules for a ClusterIP with one endpoint."""
        family, target = ("ip6", f"[{backend}]") if ":" in backend else ("ip", backend)
        rules = f"""
        table {family} proxy-{port} {{
            chain pre {{
                type nat hook prerouting priority -100;
                {family} daddr {address} tcp dport {port} meta mark set 0x4000
                {family} daddr {address} tcp dport {port} dnat to {target}:{backend_port}
            }}
            chain post {{
                type nat hook postrouting priority 100;
                meta mark & 0x4000 == 0x4000 masquerade
            }}
        }}
        """
        path = self.network.directory / f"{self.inside.name}-{family}-{port}.nft"
        path.write_text(rules)
        self.inside.run("nft", "-f", str(path))

    def wait_until_deleted(self, link: str) -> None:
        wait_until(lambda: link not in self.inside.ip("-brief", "link"), f"the deletion of {link}")

    def add_node_port(self, family: int, port: int, backend: str, backend_port: int) -> None:
        """Install kube-proxy's rules for a NodePort with externalTrafficPolicy Local.

        ``family``: 0 for IPv4, 1 for IPv6.
        """
        table, target = ("ip6", f"[{backend}]") if family else ("ip", backend)
        match = f"{table} daddr {self.addresses[family]} tcp dport {port}"
        chain = f"type nat hook prerouting priority -100; {match} dnat to {target}:{backend_port};"
        self.inside.run("nft", f"table {table} nodeport-{port} {{ chain pre {{ {chain} }}; }}")


class NetworkHarness:
    """Creates the router, nodes, Pods and hosts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.executor = NetnsExecutor()
        self._stack = ExitStack()
        self._stack.callback(self.executor.close)
        self.announcer = Announcer(self.executor)
        self._stack.callback(self.announcer.close)
        self._prefix = f"owt-{os.getpid()}-{secrets.token_hex(2)}"
        self._namespace_count = 0
        self.fabric = self.namespace("fabric")
        batch(
            self.fabric,
            "link add br0 type bridge mcast_snooping 0",
            "link set br0 up",
            *(f"address add {gateway} dev br0{nodad(gateway)}" for gateway in GATEWAY_ADDRESSES),
        )
        self.set_sysctls(self.fabric, ROUTER_SYSCTLS)
        self._node_count = 0

    def close(self) -> None:
        self._stack.close()

    def namespace(self, name: str) -> Named:
        self._namespace_count += 1
        namespace = Named(f"{self._prefix}-{self._namespace_count}-{name}")
        run(["ip", "netns", "add", namespace.name])
        self._stack.callback(namespace.delete)
        batch(namespace, "link set lo up")
        # Duplicate address detection would take two seconds.
        self.set_sysctls(namespace, {"net/ipv6/conf/default/accept_dad": "0"})
        return namespace

    def set_sysctls(self, named: Named, sysctls: dict[str, str]) -> None:
        with NetworkNamespace.open(str(named.path)) as namespace:
            write_sysctls(self.executor, namespace, sysctls)

    def open_namespace(self, named: Named) -> NetworkNamespace:
        return self._stack.enter_context(NetworkNamespace.open(str(named.path)))

    def node(self, name: str = "n1") -> NetworkNode:
        self._node_count += 1
        return NetworkNode(self, name, self._node_count)

    def pod(self, node: NetworkNode, name: str = "pod") -> NetworkPod:
        return NetworkPod(node, name)

    def underlay(self, node: NetworkNode, number: int, **settings: Any) -> NetworkPod:
        """A Pod with a dual-stack macvlan eth0, set up by the coordinator."""
        pod = self.pod(node)
        pod.macvlan("eth0", f"10.6.0.{number}/24", f"fd00:6::{number}/64")
        pod.add(**settings)
        return pod

    def outside(self) -> Named:
        namespace = self.namespace("outside")
        batch(
            self.fabric,
            f"link add out type veth peer eth0 netns {namespace.name}",
            "link set out up",
            "address add 198.51.100.1/24 dev out",
            "address add fd00:99::1/64 dev out nodad",
        )
        batch(
            namespace,
            "link set eth0 up",
            f"address add {OUTSIDE_ADDRESSES[0]}/24 dev eth0",
            f"address add {OUTSIDE_ADDRESSES[1]}/64 dev eth0 nodad",
            "route add default via 198.51.100.1",
            "route add default via fd00:99::1",
        )
        return namespace

    def listen(self, named: Named, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with NetworkNamespace.open(str(named.path)) as namespace:
            server = self.executor.socket(namespace, family, socket.SOCK_STREAM, 0)
        self._stack.callback(server.close)
        server.settimeout(ANSWER_S)
        server.bind((address, port))
        server.listen()
        return server

    def client_address_seen(
        self,
        named: Named,
        server: socket.socket,
        address: str,
        port: int,
        timeout_s: float = ANSWER_S,
    ) -> str:
        """Return the client address of the connection that the server accepts.

        The result is "" after a timeout, and "failed: ..." after another error.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with NetworkNamespace.open(str(named.path)) as namespace:
            client = self.executor.socket(namespace, family, socket.SOCK_STREAM, 0)
        with client:
            client.settimeout(timeout_s)
            try:
                client.connect((address, port))
                accepted, peer = server.accept()
                with accepted:
                    accepted.settimeout(ANSWER_S)
                    client.sendall(b"hello")
                    accepted.sendall(accepted.recv(5))
                    assert client.recv(5) == b"hello"
            except TimeoutError:
                return ""
            except OSError as error:
                return f"failed: {error}"
        return str(peer[0])


def batch(named: Named, *lines: str) -> None:
    """Run several ``ip`` commands in one process."""
    run(["ip", "-n", named.name, "-batch", "-"], stdin="\n".join((*lines, "")))


def nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def gateway_of(cidr: str) -> str:
    """The router's address: the first of the network."""
    return cidr.rpartition("::")[0] + "::1" if ":" in cidr else cidr.rpartition(".")[0] + ".1"
