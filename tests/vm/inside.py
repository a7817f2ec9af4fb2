"""Scenarios with an emulated SR-IOV card and soft RDMA devices, run inside the virtual machine.

``python -m tests.vm.inside FILE`` runs all scenarios in order and writes the findings to FILE.
The virtual machine is the node; the namespace ``router`` is the router of the card's network.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import traceback
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from core.domain.roce_qos.qos_model import RoceQos, RoceQosRule
from core.eventstore.memory_store import MemoryStore
from nodeagent.roce_qos.qos_files import QosFiles
from nodeagent.roce_qos.qos_reconciler import QosReconciler
from nodeagent.roce_qos.roce_nics import RoceNics
from nodeagent.settings.agent_settings import Settings
from nodeagent.sriov.sysfs import Sysfs
from ops import installer
from ops.diagnostics.diagnosis import diagnose
from ops.diagnostics.examination import examine
from tests.support.agent_harness import AgentHarness, Reply, running
from tests.support.http_caller import over_tcp
from tests.support.vm import Finding, write_findings
from tests.vm.exclusive_mode import exclusive_mode_is_set_and_a_soft_device_cannot_be_moved
from tests.vm.sriov_scenarios import SRIOV_SCENARIOS

MODULES: Final = (
    *("igb", "igbvf", "virtio_net", "macvlan"),
    *("veth", "nf_tables", "nft_ct", "rdma_rxe"),
)
MASTER: Final = "rail0"  # the card's physical function
VFS: Final = 3
NODE_ADDRESSES: Final = ("10.6.0.11", "fd00:6::11")
ROUTER_ADDRESSES: Final = ("10.6.0.1", "fd00:6::1")
POOLS: Final = {
    "elsewhere": ("10.5.0.0/24", "10.5.0.101-10.5.0.109"),
    "here": ("10.6.0.0/24", "10.6.0.101-10.6.0.109"),
    "here-too": ("fd00:6::/64", "fd00:6::101-fd00:6::109"),
}
"""Pool name -> subnet, addresses."""

SERVICES: Final = ["10.96.0.0/16", "fd00:96::/112"]
IPAM_OPTIONS: Final = {
    "match_master_subnet": True,
    "default_ipv4_ippool": ["elsewhere", "here"],
    "default_ipv6_ippool": ["here-too"],
}
"""Of the two IPv4 pools, only ``here`` is in the subnet of ``MASTER``."""

READY_TRIES: Final = 200  # each try takes milliseconds
PINGPONG_PORT: Final = 18_515
PINGPONG_S_MAX: Final = 60.0


class Machine:
    """The virtual machine as a node, with its agent."""

    def __init__(self, agent: AgentHarness, plugins: Path) -> None:
        self.node = agent
        self.plugins = plugins
        self.free_vfs = [vf_name(number) for number in range(VFS)]

    async def execute(self, plugin: str, verb: str, pod: str, conf: dict[str, Any]) -> Any:
        """Call a CNI executable as a container runtime does; return the printed result."""
        variables = self.node.environment(verb, pod, CNI_NETNS=f"/run/netns/{pod}")
        socket_path = self.node.process.settings.socket_path
        ipam = {"type": "spiderpool", "ipam_unix_socket_path": socket_path, **conf.pop("ipam", {})}
        netconf = {"cniVersion": "1.0.0", "name": "lan", "type": plugin, "ipam": ipam} | conf
        if plugin == "coordinator":
            netconf |= {"ipam_unix_socket_path": socket_path, "serviceCIDR": SERVICES}
        process = await asyncio.to_thread(
            subprocess.run,
            [self.plugins / plugin],
            input=json.dumps(netconf).encode(),
            env=variables,
            capture_output=True,
            check=False,
        )
        result = json.loads(process.stdout) if process.stdout else {}
        assert process.returncode == 0, result
        return result

    async def pod(self, name: str, **settings: Any) -> tuple[str, str]:
        """Create a Pod with a virtual function as eth0; return the Pod's IPv4 and IPv6 address."""
        await self.node.pod(name, {})
        sh("ip", "netns", "add", name)
        await asyncio.to_thread(sysctl, name, "net.ipv6.conf.default.accept_dad=0")
        vf = self.free_vfs.pop()
        sh("ip", "link", "set", vf, "down")
        sh("ip", "link", "set", vf, "netns", name, "name", "eth0")
        result = await self.execute("spiderpool", "ADD", name, {"ipam": dict(IPAM_OPTIONS)})
        addresses = [ip["address"] for ip in result["ips"]]
        for address in addresses:
            sh("ip", "-n", name, "address", "add", address, "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        for router in ROUTER_ADDRESSES:
            sh("ip", "-n", name, "route", "add", "default", "via", router)
        result["interfaces"] = [{"name": "eth0", "sandbox": f"/run/netns/{name}"}]
        await self.execute("coordinator", "ADD", name, {"prevResult": result, **settings})
        v4, v6 = (address.partition("/")[0] for address in addresses)
        return v4, v6

    async def scrape(self) -> dict[str, list[Sample]]:
        """The samples of the agent's metrics, by metric name."""
        port = self.node.process.metrics_port
        assert port is not None
        text = (await over_tcp(port.port, "/metrics")).body.decode()
        samples: dict[str, list[Sample]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(sample)
        return samples

    async def delete(self, pod: str) -> None:
        await self.execute("coordinator", "DEL", pod, {})
        await self.execute("spiderpool", "DEL", pod, {})


async def test_a_vf_gets_addresses_of_its_masters_subnet_and_reaches_node_and_network(
    machine: Machine,
) -> None:
    v4, v6 = await machine.pod("vf-a")

    assert (v4.rpartition(".")[0], v6.rpartition(":")[0]) == ("10.6.0", "fd00:6:")
    for address, node, router in zip((v4, v6), NODE_ADDRESSES, ROUTER_ADDRESSES, strict=True):
        assert pings(address, "-I", node)
        assert pings(node, pod="vf-a")
        assert await answers(router, "vf-a")
    assert "dev veth0" in sh("ip", "-n", "vf-a", "route", "get", NODE_ADDRESSES[0])
    assert "dev eth0" in sh("ip", "-n", "vf-a", "route", "get", ROUTER_ADDRESSES[0])
    assert f"dev {host_veth_name('vf-a')}" in sh("ip", "route", "get", v4)
    assert "fwmark 0x1 lookup 100" in sh("ip", "-n", "vf-a", "rule"), "the rule for replies"
    # docs/guides/sriov.md tells readers to check this.
    readlink = ("readlink", "/sys/class/net/eth0/device/driver")
    assert sh("ip", "netns", "exec", "vf-a", *readlink).rstrip().endswith("/igbvf")


async def test_pods_on_two_vfs_of_one_card_reach_each_other(machine: Machine) -> None:
    v4, v6 = await machine.pod("vf-b")

    assert await answers(v4, "vf-a")
    assert await answers(v6, "vf-a")


async def test_a_mac_prefix_is_set_on_a_vf(machine: Machine) -> None:
    v4, _ = await machine.pod("vf-c", podMACPrefix="0a:1b")

    suffix = bytes(int(part) for part in v4.split(".")).hex(":")
    assert f"0a:1b:{suffix}" in sh("ip", "-n", "vf-c", "link", "show", "dev", "eth0")
    assert await answers(ROUTER_ADDRESSES[0], "vf-c")


async def test_add_fails_if_the_masters_subnet_has_no_pool(
    machine: Machine,
) -> None:
    conf = machine.node.netconf(
        ipam={"match_master_subnet": True, "default_ipv4_ippool": ["elsewhere"]}
    )
    await machine.node.pod("vf-d", {})
    variables = {"CNI_NETNS": "/run/netns/vf-a"}  # eth0 of vf-a is a VF, so the master is known

    error = (await machine.node.call("ADD", "vf-d", conf=conf, **variables)).error

    assert "elsewhere" in error["msg"] + error["details"]
    assert "master" in error["msg"] + error["details"], error


async def test_del_restores_the_node_and_returns_the_vf(machine: Machine) -> None:
    await machine.delete("vf-a")
    # DEL must also succeed when the namespace is already deleted.
    sh("ip", "netns", "delete", "vf-b")
    await machine.delete("vf-b")
    await machine.delete("vf-c")
    for pod in ("vf-a", "vf-c"):
        sh("ip", "netns", "delete", pod)

    assert await machine.node.claims() == {}
    assert "veth" not in sh("ip", "-brief", "link")
    assert sh("ip", "route", "show", "table", "500") == ""
    for _ in range(READY_TRIES):
        if len(list(Path("/sys/class/net").glob("*/device/physfn"))) == VFS:
            return
        await asyncio.to_thread(sh, "ip", "link")  # a pause of milliseconds
    raise AssertionError("the kernel has not returned the VFs to the node")


async def test_the_doctor_lists_virtual_functions_and_rdma_devices(machine: Machine) -> None:
    sh("rdma", "link", "add", "rxe0", "type", "rxe", "netdev", MASTER)

    examination = await examine()

    (nic,) = (nic for nic in examination.nics if nic.name == MASTER)
    assert (nic.vfs, nic.vfs_max, nic.rdma) == (VFS, 7, ("rxe0",)), "the card supports 7 VFs"
    assert nic.device == Path(f"/sys/class/net/{MASTER}/device").resolve().name
    assert examination.faults == ()
    faults = {feature.name: feature.why_not for feature in examination.features}
    for kind in ("macvlan", "ipvlan", "vlan", "bond", "vrf"):
        assert faults[f"{kind} links"] == "", "Debian's kernel has all kinds"
    texts = {diagnosis.check: diagnosis.found for diagnosis in diagnose(examination)}
    assert texts[f"interface {MASTER}"].endswith(f"{VFS} of 7 VFs created, RDMA rxe0")


class RailPod:
    """A Pod whose eth0 is a veth pair, and whose net1 is a macvlan on ``MASTER``."""

    def __init__(self, machine: Machine, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.netns = f"/run/netns/{name}"
        self.previous_result = {"cniVersion": "1.0.0", "ips": [{"address": f"{address}/24"}]}
        self._node = machine.node
        self._conf = self._node.netconf(
            "1.0.0", prevResult=self.previous_result | {"interfaces": []}
        )

    async def call(self, verb: str) -> Reply:
        variables = {
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "net1",
            "ORBWEAVER_PLUGIN": "coordinator",
        }
        return await self._node.call(verb, self.name, conf=self._conf, **variables)

    async def start(self) -> Reply:
        name, ip = self.name, ("ip", "-n", self.name)
        await self._node.pod(name, {})
        sh("ip", "netns", "add", name)
        pair = ("peer", "name", "eth0", "netns", name)
        sh("ip", "link", "add", f"cali-{name}", "type", "veth", *pair)
        sh("ip", "link", "set", f"cali-{name}", "up")
        sh(*ip, "link", "set", "eth0", "up")
        sh(*ip, "address", "add", "10.244.1.5/32", "dev", "eth0")
        sh(*ip, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        sh(*ip, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        sh("ip", "link", "add", "link", MASTER, "name", "m0", "type", "macvlan", "mode", "bridge")
        sh("ip", "link", "set", "m0", "netns", name, "name", "net1")
        sh(*ip, "address", "add", f"{self.address}/24", "dev", "net1")
        sh(*ip, "link", "set", "net1", "up")
        return await self.call("ADD")

    async def end(self) -> None:
        assert (await self.call("DEL")).status == 0
        sh("ip", "netns", "delete", self.name)


async def test_a_pod_gets_a_macvlan_and_a_shared_rdma_device(machine: Machine) -> None:
    pod = RailPod(machine, "rail", "10.6.0.120")

    reply = await pod.start()

    assert reply.result["ips"] == pod.previous_result["ips"]
    assert "rxe0" in sh("nsenter", f"--net={pod.netns}", "rdma", "link")
    assert "from 10.6.0.120 lookup 101" in sh("ip", "-n", "rail", "rule"), "the table of net1"
    assert await answers(ROUTER_ADDRESSES[0], "rail", "-I", "net1")
    await pod.end()


async def test_two_pods_exchange_messages_over_a_shared_rdma_device(machine: Machine) -> None:
    sh("modprobe", "ib_uverbs")
    pods = server, client = (
        RailPod(machine, "server", "10.6.0.121"),
        RailPod(machine, "client", "10.6.0.122"),
    )
    for pod in pods:
        await pod.start()
    program = (
        "ibv_rc_pingpong",
        "--ib-dev=rxe0",
        f"--gid-idx={gid_index(NODE_ADDRESSES[0])}",
        "--iters=100",
    )

    server_process = await asyncio.create_subprocess_exec(
        "nsenter", f"--net={server.netns}", *program, stdout=PIPE, stderr=STDOUT
    )
    try:
        await asyncio.to_thread(until_listening, server.netns)
        enter_client = ("nsenter", f"--net={client.netns}")
        text = await asyncio.to_thread(sh, *enter_client, *program, server.address)
        server_text, _ = await asyncio.wait_for(server_process.communicate(), PINGPONG_S_MAX)
    finally:
        if server_process.returncode is None:
            server_process.kill()

    assert "100 iters in" in text
    assert "100 iters in" in server_text.decode()
    for pod in pods:
        await pod.end()


async def test_growing_counters_of_an_rdma_device_are_scraped(machine: Machine) -> None:
    send = ["nsenter", "--net=/run/netns/router", sys.executable, "-m", "tests.vm.roce"]
    before = await machine.scrape()
    port_labels = {"node_name": "node-1", "ifname": "rxe0", "net_dev_name": MASTER}

    (packets,) = before["rdma_rcvd_pkts_total"]
    labels = packets.labels
    assert port_labels.items() <= labels.items(), labels
    assert (labels["is_root"], labels["otel_scope_name"]) == ("true", "spiderpool-agent")
    assert labels["node_guid"] == labels["sys_image_guid"]
    assert "rdma_parent_name" not in labels
    assert [key for key in labels if key.startswith(("pod_", "owner_"))] == []
    statistics = json.loads(sh("rdma", "-j", "statistic"))[0]
    counters = {key for key in statistics if key not in ("ifname", "port")}
    assert {f"rdma_{key}_total" for key in counters} <= before.keys(), "a metric per counter"
    (speed,) = before["rdma_vport_speed_mbps_total"]
    assert speed.value == 1_000, "the card's speed is 1 Gbit/s"
    (traffic_class,) = before["rdma_device_tos_total"]
    assert port_labels == {key: traffic_class.labels[key] for key in port_labels}
    assert traffic_class.value == 0, "no traffic class is set"

    for _ in range(READY_TRIES):
        sh(*send, ROUTER_ADDRESSES[0], NODE_ADDRESSES[0])
        (later_packets,) = (await machine.scrape())["rdma_rcvd_pkts_total"]
        if later_packets.value > packets.value:
            assert later_packets.labels == labels, "the same series"
            break
    else:
        raise AssertionError("the counter of received packets does not grow")
    (failures,) = (await machine.scrape())["orbweaver_rdma_reading_failures_total"]
    assert failures.value == 0


async def test_qos_sets_only_the_rdma_cm_defaults_of_a_soft_device(
    machine: Machine,
) -> None:
    """The emulated card has neither DCB nor ECN settings."""
    sh("modprobe", "rdma_cm")
    sh("mount", "-t", "configfs", "none", "/sys/kernel/config")
    executor = machine.node.process.parts.executor
    hardware = RoceNics(executor, QosFiles(Sysfs(Path("/sys"))))
    reconciler = QosReconciler([RoceQosRule(RoceQos(), (MASTER,))], lambda: None, hardware)

    await reconciler.run_round()
    changes_of_first_round = reconciler.changes
    await reconciler.run_round()

    assert reconciler.faults == {}
    assert (changes_of_first_round, reconciler.changes) == (1, 1), (
        "the second round changes nothing"
    )
    port = Path("/sys/kernel/config/rdma_cm/rxe0/ports/1")
    assert (port / "default_roce_tos").read_text() == "160\n"
    assert (port / "default_roce_mode").read_text() == "RoCE v2\n"
    assert [gap.setting for gap in reconciler.plan.gaps] == [
        "trust, PFC",
        "ECN",
        "traffic class of rxe0",
    ]
    texts = {diagnosis.check: diagnosis.found for diagnosis in diagnose(await examine())}
    assert texts[f"RoCE QoS of {MASTER}"] == "no DCB, no ECN files, rxe0 RDMA CM 160"


async def test_exclusive_mode_is_set_and_a_soft_device_cannot_be_moved(machine: Machine) -> None:
    await exclusive_mode_is_set_and_a_soft_device_cannot_be_moved(
        machine.node.process.parts.executor
    )


VM_SCENARIOS: Final[tuple[Callable[[Machine], Awaitable[None]], ...]] = (
    test_a_vf_gets_addresses_of_its_masters_subnet_and_reaches_node_and_network,
    test_pods_on_two_vfs_of_one_card_reach_each_other,
    test_a_mac_prefix_is_set_on_a_vf,
    test_add_fails_if_the_masters_subnet_has_no_pool,
    test_del_restores_the_node_and_returns_the_vf,
    test_the_doctor_lists_virtual_functions_and_rdma_devices,
    test_a_pod_gets_a_macvlan_and_a_shared_rdma_device,
    test_two_pods_exchange_messages_over_a_shared_rdma_device,
    test_growing_counters_of_an_rdma_device_are_scraped,
    test_qos_sets_only_the_rdma_cm_defaults_of_a_soft_device,
    *SRIOV_SCENARIOS,
    test_exclusive_mode_is_set_and_a_soft_device_cannot_be_moved,
)


# ------------------------------------------------------------------------------------- machine


def sh(*command: str) -> str:
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, f"{' '.join(command)}: {process.stdout}{process.stderr}"
    return process.stdout


def sysctl(netns: str, setting: str) -> None:
    sh("nsenter", f"--net=/run/netns/{netns}", "sysctl", "-q", "-w", setting)


def host_veth_name(pod: str) -> str:
    return f"veth{f'c-{pod}'[:11]}"


def vf_name(number: int) -> str:
    return f"rail0vf{number}"


def pings(address: str, *options: str, pod: str = "") -> bool:
    enter = ["nsenter", f"--net=/run/netns/{pod}"] if pod else []
    command = [*enter, "ping", "-n", "-c", "1", "-W", "5", *options, address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def answers(address: str, pod: str, *options: str) -> bool:
    """Whether a ping from a Pod gets a reply; retries, because the link comes up slowly."""
    for _ in range(READY_TRIES):
        if await asyncio.to_thread(pings, address, *options, pod=pod):
            return True
    return False


def gid_index(address: str) -> int:
    """The index of the RoCE v2 entry for an IPv4 address in the GID table of rxe0."""
    port = Path("/sys/class/infiniband/rxe0/ports/1")
    gid = IPv6Address(f"::ffff:{address}").exploded
    (index,) = (
        int(path.name)
        for path in (port / "gids").iterdir()
        if path.read_text().strip() == gid
        and (port / "gid_attrs/types" / path.name).read_text().strip() == "RoCE v2"
    )
    return index


def until_listening(netns: str) -> None:
    listening = ("ss", "-Hltn", f"sport = :{PINGPONG_PORT}")
    for _ in range(READY_TRIES):
        if sh("nsenter", f"--net={netns}", *listening):
            return
    raise AssertionError("ibv_rc_pingpong does not listen")


def prepare() -> None:
    for module in MODULES:
        sh("modprobe", module)
    nics = Path("/sys/class/net")
    (card,) = (path.parent.parent for path in nics.glob("*/device/sriov_totalvfs"))
    router_nic = next(p for p in nics.iterdir() if "virtio" in str((p / "device").resolve()))
    sh("ip", "netns", "add", "router")
    sysctl("router", "net.ipv6.conf.default.accept_dad=0")
    sh("ip", "link", "set", router_nic.name, "netns", "router", "name", "eth0")
    for address in (f"{ROUTER_ADDRESSES[0]}/24", f"{ROUTER_ADDRESSES[1]}/64"):
        sh("ip", "-n", "router", "address", "add", address, "dev", "eth0")
    sh("ip", "-n", "router", "link", "set", "eth0", "up")
    sh("sysctl", "-q", "-w", "net.ipv6.conf.default.accept_dad=0")
    sh("ip", "link", "set", card.name, "name", MASTER)
    (nics / MASTER / "device/sriov_numvfs").write_text(str(VFS))
    for address in (f"{NODE_ADDRESSES[0]}/24", f"{NODE_ADDRESSES[1]}/64"):
        sh("ip", "address", "add", address, "dev", MASTER)
    sh("ip", "link", "set", MASTER, "up")
    for number in range(VFS):
        (link,) = (nics / MASTER / f"device/virtfn{number}/net").iterdir()
        sh("ip", "link", "set", link.name, "name", vf_name(number))


async def run_scenarios() -> list[Finding]:
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    prepare()
    installer.install(directory / "bin", directory / "net.d")
    settings = Settings(
        node_name="node-1",
        socket_path=str(directory / "a.sock"),
        plugin_log_path=str(directory / "plugin.log"),
        health_port=0,
        metrics_port=0,
        metrics_enabled=True,
        rdma_metrics_enabled=True,
    )
    findings = []
    async with running(settings, MemoryStore()) as node:
        for name, (subnet, ips) in POOLS.items():
            await node.pool(name, subnet, ips, default=False)
        machine = Machine(node, directory / "bin")
        for scenario in VM_SCENARIOS:
            try:
                await scenario(machine)
            except Exception:  # noqa: BLE001 - after any error the next scenario still runs
                findings.append(Finding(scenario.__name__, traceback.format_exc()))
            else:
                findings.append(Finding(scenario.__name__, ""))
    return findings


if __name__ == "__main__":
    write_findings(Path(sys.argv[1]), asyncio.run(run_scenarios()))
