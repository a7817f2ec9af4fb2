"""``orbctl node doctor``, and sysctls that agents set; each node is a network namespace."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from core.errors import DatapathError
from core.eventstore.memory_store import MemoryStore
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, read_sysctl
from nodeagent.settings.agent_settings import Settings
from nodeagent.settings.sysctls import NODE_SYSCTLS, Sysctl, read_node_sysctls, set_node_sysctls
from ops.diagnostics.kernel_features import try_kernel_features
from ops.diagnostics.network_manager import NetworkManagerState, read_network_manager
from tests.support.agent_harness import running
from tests.support.link import Link, Station, ip


def orbctl(station: Station, *arguments: str) -> tuple[int, str]:
    """The exit code and output of orbctl on the node."""
    program = [sys.executable, "-m", "ops.cli.main", *arguments]
    command = ["nsenter", f"--net={station.netns}", "--", *program]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert completed.stderr == ""
    return completed.returncode, completed.stdout


def node(link: Link) -> Station:
    station = link.station("10.6.0.2/24", "fd00:6::2/64")
    name = Path(station.netns).name
    # A new namespace copies the IPv4 settings of this machine.
    ip("netns", "exec", name, "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "route", "add", "default", "via", "10.6.0.1")
    return station


def test_the_doctor_reports_interfaces_and_the_hosts_that_answer_for_gateways(link: Link) -> None:
    router, router6 = link.station("10.6.0.1/24"), link.station("fd00:6::1/64")

    code, text = orbctl(node(link), "-o", "json", "node", "doctor", "--gateway", "eth0=fd00:6::1")

    assert code == 0
    document: Any = json.loads(text)
    assert [(gateway["address"], gateway["answeredBy"]) for gateway in document["gateways"]] == [
        ("10.6.0.1", [router.mac]),
        ("fd00:6::1", [router6.mac]),
    ]
    (nic,) = (item for item in document["interfaces"] if item["name"] == "eth0")
    assert nic["addresses"] == ["10.6.0.2/24", "fd00:6::2/64"]
    assert (nic["kind"], nic["mtu"], nic["up"]) == ("veth", 1500, True)
    assert (nic["device"], nic["vfs_max"], nic["rdma"]) == ("", 0, []), "a veth has no hardware"
    supported = {feature["name"] for feature in document["abilities"] if not feature["why_not"]}
    assert {"veth links", "bridge links", "macvlan links", "IPv4 policy rules"} <= supported
    verdicts = {row["check"]: row["verdict"] for row in document["diagnoses"]}
    assert verdicts["gateway 10.6.0.1 on eth0"] == "ok"
    assert verdicts["sysctl ipv4.conf.all.forwarding"] == "warning"


def test_the_csv_of_the_doctor_has_the_checks_of_its_json(link: Link) -> None:
    station = node(link)

    _, as_json = orbctl(station, "-o", "json", "node", "doctor")
    _, as_csv = orbctl(station, "-o", "csv", "node", "doctor")

    checks = [row["check"] for row in json.loads(as_json)["diagnoses"]]
    assert [row["CHECK"] for row in csv.DictReader(as_csv.splitlines())] == checks


def test_the_doctor_names_both_machines_that_have_the_gateways_address(link: Link) -> None:
    first, second = link.station("10.6.0.1/24"), link.station("10.6.0.1/24")

    _, text = orbctl(node(link), "node", "doctor")

    (line,) = (line for line in text.splitlines() if line.startswith("gateway 10.6.0.1"))
    assert "several hosts answer" in line
    assert first.mac in line
    assert second.mac in line


def test_the_doctor_tells_a_silent_gateway_from_a_missing_interface(link: Link) -> None:
    options = ("--gateway", "eth0=10.6.0.77", "--gateway", "eth9=10.6.0.1")

    _, text = orbctl(node(link), "node", "doctor", *options)

    lines = {line.split("  ")[0]: line for line in text.splitlines() if line.startswith("gateway")}
    assert "no host answers" in lines["gateway 10.6.0.77 on eth0"]
    assert "No such device" in lines["gateway 10.6.0.1 on eth9"]


def test_a_gateway_without_an_interface_is_refused_with_an_example(namespaces: None) -> None:
    command = [sys.executable, "-m", "ops.cli.main", "node", "doctor", "--gateway", "10.6.0.1"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert completed.returncode == 2
    assert "ens3=10.6.0.1" in completed.stderr


def test_only_sysctls_of_the_enabled_ip_families_are_set(
    link: Link, executor: NetnsExecutor
) -> None:
    with NetworkNamespace.open(link.station().netns) as namespace:
        set_node_sysctls(executor, namespace, (4,))

        assert read_sysctl(executor, namespace, "net/ipv4/conf/all/forwarding") == "1"
        assert read_sysctl(executor, namespace, "net/ipv4/conf/all/arp_notify") == "1"
        assert read_sysctl(executor, namespace, "net/ipv6/conf/all/forwarding") == "0", (
            "expected no change for IPv6, which is not enabled"
        )
        assert all(not value.needs_change for value in read_node_sysctls(executor, namespace, (4,)))

        set_node_sysctls(executor, namespace, (4, 6))
        assert read_sysctl(executor, namespace, "net/ipv6/conf/all/forwarding") == "1"


def test_a_sysctl_that_the_kernel_does_not_have_is_skipped(
    link: Link,
    executor: NetnsExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unknown_sysctl = Sysctl("net/ipv4/conf/all/no_such_key", "1", (4,))
    (forwarding,) = (item for item in NODE_SYSCTLS if item.key == "net/ipv4/conf/all/forwarding")
    monkeypatch.setattr("nodeagent.settings.sysctls.NODE_SYSCTLS", (unknown_sysctl, forwarding))
    with NetworkNamespace.open(link.station().netns) as namespace:
        set_node_sysctls(executor, namespace, (4,))

        assert read_sysctl(executor, namespace, "net/ipv4/conf/all/forwarding") == "1"
    assert "skipped sysctl net/ipv4/conf/all/no_such_key" in caplog.text


def test_the_error_of_a_failed_sysctl_write_names_the_sysctl(
    link: Link, executor: NetnsExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable_sysctl = Sysctl("net/ipv4/conf/all/forwarding", "no number", (4,))
    monkeypatch.setattr("nodeagent.settings.sysctls.NODE_SYSCTLS", (unwritable_sysctl,))
    with (
        NetworkNamespace.open(link.station().netns) as namespace,
        pytest.raises(DatapathError, match="net/ipv4/conf/all/forwarding"),
    ):
        set_node_sysctls(executor, namespace, (4,))


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("[keyfile]\nunmanaged-devices=interface-name:veth*\n", {"veth0"}),
        ("[keyfile]\nunmanaged-devices = mac:00:11;interface-name:veth*,bond0", {"veth0", "bond0"}),
        ("[keyfile]\nunmanaged-devices+=interface-name:=bond0\n", {"cali0", "bond0"}),
        ("[keyfile]\nunmanaged-devices=type:bond;type:veth\n", {"veth0", "cali0", "bond0"}),
        ("[keyfile]\nunmanaged-devices=*,except:type:veth\n", {"bond0", "bond0.100"}),
        ("[keyfile]\nunmanaged-devices=except:type:veth\n", {"bond0", "bond0.100"}),
        ("[keyfile]\nunmanaged-devices=interface-name:bond0*\n", {"bond0", "bond0.100"}),
        ("# unmanaged-devices=interface-name:veth*\n", {"cali0"}),
    ],
)
def test_the_files_of_networkmanager_show_which_interfaces_it_ignores(
    tmp_path: Path, text: str, ignored: set[str]
) -> None:
    (tmp_path / "calico.conf").write_text("[keyfile]\nunmanaged-devices=interface-name:cali*\n")
    (tmp_path / "spidernet.conf").write_text(text)

    manager = read_network_manager(tmp_path, tmp_path, tmp_path / "none")
    kinds = {"veth0": "veth", "cali0": "veth", "bond0": "bond", "bond0.100": "vlan"}
    assert {name for name, kind in kinds.items() if manager.ignores(name, kind)} == ignored
    assert manager.ignores_veths == ("veth0" in ignored)


def test_the_profiles_of_networkmanager_name_the_interfaces_that_it_has_to_manage(
    tmp_path: Path,
) -> None:
    profiles = tmp_path / "system-connections"
    profiles.mkdir()
    (profiles / "b.nmconnection").write_text("[connection]\ninterface-name=bond0\n")

    # NetworkManager runs if its run directory exists.
    manager = read_network_manager(tmp_path / "run", tmp_path / "none", profiles)
    assert manager == NetworkManagerState(running=False, profiles=frozenset({"bond0"}))
    in_run_directory = read_network_manager(tmp_path, tmp_path / "none", tmp_path / profiles.name)
    assert in_run_directory == manager._replace(running=True)


def has_nftables() -> bool:
    completed = subprocess.run(
        ["unshare", "--net", "nft", "add", "table", "ip", "tried"], capture_output=True, check=False
    )
    return completed.returncode == 0


@pytest.mark.uml
def test_a_kernel_with_modules_has_all_tested_features(executor: NetnsExecutor) -> None:
    why_not = {feature.name: feature.why_not for feature in try_kernel_features(executor)}

    for kind in ("veth", "macvlan", "ipvlan", "vlan", "bond", "vrf"):
        assert why_not[f"{kind} links"] == ""
    assert why_not["IPv6 policy rules"] == ""
    # Only some test kernels support nftables for IP.
    program = "nftables" if has_nftables() else "iptables"
    assert why_not[f"IPv4 reply marks by {program}"] == ""


@pytest.mark.uml
async def test_an_agent_with_tune_sysctls_sets_the_sysctls_of_its_node(
    executor: NetnsExecutor,
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    settings = Settings(
        node_name="node-1",
        socket_path=str(directory / "a.sock"),
        plugin_log_path=str(directory / "plugin.log"),
        health_port=0,
        metrics_port=0,
        tune_sysctls=True,
    )
    async with running(settings, MemoryStore()):
        values = {
            value.sysctl.key: value.current
            for value in read_node_sysctls(executor, executor.own_namespace, (4, 6))
        }
    shutil.rmtree(directory)

    assert values == {sysctl.key: sysctl.value for sysctl in NODE_SYSCTLS}
