"""Real bonds and VLANs in user-mode Linux, because test machines often lack their drivers.

Spiderpool's cases N00001 to N00006; see docs/contributing/compatibility.md, "Others".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import DatapathError
from core.eventstore.memory_store import MemoryStore
from nodeagent.ifacer.ifacer_configuration import read_conf
from nodeagent.ifacer.link_configurator import LinkConfigurator
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.settings.agent_settings import Settings
from ops import installer
from tests.support.agent_harness import running

pytestmark = pytest.mark.uml

_numbers = itertools.count()


class Host:
    """A namespace with NICs and a link configurator."""

    def __init__(self, name: str, executor: NetnsExecutor, namespace: NetworkNamespace) -> None:
        self.name = name
        self._executor = executor
        self._namespace = namespace
        self.configurator = LinkConfigurator(executor, namespace)

    async def prepare(self, *interfaces: str, **fields: Any) -> None:
        conf = {"cniVersion": "1.0.0", "interfaces": interfaces} | fields
        links = read_conf(json.dumps(conf).encode()).links
        assert links is not None
        await self.configurator.prepare(links)

    def separate_configurator(self) -> LinkConfigurator:
        """A configurator that shares no lock with ``configurator``."""
        return LinkConfigurator(self._executor, self._namespace)

    def ip(self, *arguments: str) -> str:
        process = subprocess.run(
            ["ip", "-n", self.name, *arguments], capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, f"ip {' '.join(arguments)}: {process.stderr}"
        return process.stdout

    def link(self, name: str) -> Any:
        return json.loads(self.ip("-d", "-j", "link", "show", "dev", name))[0]

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.ip("-j", "link", "show"))}


@pytest.fixture
def host() -> Iterator[Host]:
    name = f"host-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    executor = NetnsExecutor()
    with NetworkNamespace.open(f"/run/netns/{name}") as namespace:
        new_host = Host(name, executor, namespace)
        for nic in ("ens3", "ens4"):
            new_host.ip("link", "add", nic, "type", "dummy")
        yield new_host
    executor.close()
    subprocess.run(["ip", "netns", "delete", name], check=True)


def is_up(link: Any) -> bool:
    return "UP" in link["flags"]


async def test_a_vlan_is_created_and_its_parent_is_set_up(host: Host) -> None:
    await host.prepare("ens3", vlanID=5)

    vlan = host.link("ens3.5")
    assert vlan["linkinfo"] == {
        "info_kind": "vlan",
        "info_data": {"protocol": "802.1Q", "id": 5, "flags": ["REORDER_HDR"]},
    }
    assert vlan["link"] == "ens3"
    assert is_up(vlan)
    assert is_up(host.link("ens3"))


async def test_an_existing_vlan_is_set_up_but_not_changed(host: Host) -> None:
    await host.prepare("ens3", vlanID=5)
    vlan_before = host.link("ens3.5")

    await host.prepare("ens3", vlanID=5)
    assert host.link("ens3.5") == vlan_before

    host.ip("link", "set", "ens3.5", "down")
    await host.prepare("ens3", vlanID=5)
    assert is_up(host.link("ens3.5"))

    host.ip("link", "set", "ens3", "down")
    await host.prepare("ens3", vlanID=5)
    assert is_up(host.link("ens3"))
    assert is_up(host.link("ens3.5"))


async def test_a_second_vlan_with_the_same_id_is_refused(host: Host) -> None:
    await host.prepare("ens3", vlanID=5)

    with pytest.raises(DatapathError, match="with the same vlanId 5 on node at the same time"):
        await host.prepare("ens4", vlanID=5)
    with pytest.raises(DatapathError, match="with the same vlanId 5 on node at the same time"):
        await host.prepare("ens3", "ens4", vlanID=5, bond={"mode": 1})

    assert host.links() == {"lo", "ens3", "ens4", "ens3.5"}


async def test_a_deleted_vlan_is_created_again(host: Host) -> None:
    await host.prepare("ens3", vlanID=5)
    host.ip("link", "delete", "ens3.5")
    host.ip("link", "set", "ens3", "down")

    await host.prepare("ens3", vlanID=5)

    assert is_up(host.link("ens3.5"))


async def test_a_bond_gets_its_mode_options_and_members(host: Host) -> None:
    host.ip("link", "set", "ens3", "up")
    options = "miimon=120;up_delay=240;primary=ens4;fail_over_mac=1"

    await host.prepare("ens3", "ens4", bond={"name": "bd0", "mode": 1, "options": options})

    bond = host.link("bd0")
    assert is_up(bond)
    assert bond["linkinfo"]["info_kind"] == "bond"
    bond_data = bond["linkinfo"]["info_data"]
    assert bond_data["mode"] == "active-backup"
    assert (bond_data["miimon"], bond_data["updelay"], bond_data["primary"]) == (120, 240, "ens4")
    assert bond_data["fail_over_mac"] == "active"
    for member in ("ens3", "ens4"):
        assert host.link(member)["master"] == "bd0"
        assert is_up(host.link(member))


async def test_the_active_member_is_set_only_if_the_member_is_usable(host: Host) -> None:
    """Spiderpool sets the active member before it adds the members; every kernel refuses that."""
    bond = {"name": "bd0", "mode": 1, "options": "miimon=100;active_slave=ens4"}
    await host.prepare("ens3", "ens4", bond=bond)
    assert host.link("bd0")["linkinfo"]["info_data"]["active_slave"] == "ens4"
    host.ip("link", "delete", "bd0")

    bond["options"] = "miimon=100;up_delay=60000;active_slave=ens4"
    await host.prepare("ens3", "ens4", bond=bond)
    assert is_up(host.link("bd0")), "ens4 is not usable for a minute, so it is not made active"


@pytest.mark.parametrize("mode", range(7))
async def test_a_bond_of_every_mode_is_created(host: Host, mode: int) -> None:
    await host.prepare("ens3", "ens4", bond={"mode": mode, "options": "miimon=100"})

    assert is_up(host.link("sp_bond0"))
    assert host.link("ens4")["master"] == "sp_bond0"


async def test_a_bond_gets_arp_targets_and_the_lacp_actor(host: Host) -> None:
    options = 'arp_interval=200;arp_ip_target=["10.6.0.1","10.6.0.2"]'
    await host.prepare("ens3", "ens4", bond={"name": "bond-a", "mode": 1, "options": options})
    assert host.link("bond-a")["linkinfo"]["info_data"]["arp_ip_target"] == ["10.6.0.1", "10.6.0.2"]
    host.ip("link", "delete", "bond-a")

    options = "miimon=100;lacp_rate=1;ad_actor_sys_prio=7;ad_actor_system=02:00:00:00:00:0a"
    await host.prepare("ens3", "ens4", bond={"name": "bond-b", "mode": 4, "options": options})
    bond_data = host.link("bond-b")["linkinfo"]["info_data"]
    assert bond_data["ad_lacp_rate"] == "fast"
    assert (bond_data["ad_actor_sys_prio"], bond_data["ad_actor_system"]) == (
        7,
        "02:00:00:00:00:0a",
    )


async def test_one_call_creates_a_bond_and_a_vlan_on_it(host: Host) -> None:
    await host.prepare("ens3", "ens4", vlanID=100, bond={"name": "bd0", "mode": 1})

    assert host.link("bd0.100")["link"] == "bd0"
    assert is_up(host.link("bd0.100"))


async def test_an_incomplete_bond_is_completed(host: Host) -> None:
    """A call that crashes leaves such a bond."""
    host.ip("link", "add", "bd0", "type", "bond", "mode", "active-backup")
    host.ip("link", "set", "ens3", "master", "bd0")

    await host.prepare("ens3", "ens4", vlanID=7, bond={"name": "bd0", "mode": 1})

    assert host.link("ens3")["master"] == host.link("ens4")["master"] == "bd0"
    assert is_up(host.link("bd0.7"))


async def test_a_nic_that_has_addresses_is_not_added_to_an_existing_bond(host: Host) -> None:
    host.ip("link", "add", "bd0", "type", "bond", "mode", "active-backup")
    host.ip("link", "set", "ens3", "master", "bd0")
    host.ip("address", "add", "10.9.0.4/24", "dev", "ens4")
    host.ip("link", "set", "ens4", "up")

    await host.prepare("ens3", "ens4", bond={"name": "bd0", "mode": 1})

    assert is_up(host.link("bd0"))
    assert "master" not in host.link("ens4")
    assert is_up(host.link("ens4"))


async def test_a_nic_that_belongs_to_another_link_is_refused(host: Host) -> None:
    host.ip("link", "add", "other", "type", "bond")
    host.ip("link", "set", "ens4", "master", "other")

    with pytest.raises(DatapathError, match="ens4 belongs to other"):
        await host.prepare("ens3", "ens4", bond={"name": "bd0", "mode": 1})

    assert "bd0" not in host.links()


async def test_concurrent_calls_create_each_link_once(host: Host) -> None:
    """Several processes without a common lock may create links of one node."""
    links = read_conf(
        json.dumps({
            "interfaces": ["ens3", "ens4"], "vlanID": 9, "bond": {"name": "bd0", "mode": 1},
        }).encode()
    ).links  # fmt: skip
    assert links is not None
    configurators = [host.separate_configurator() for _ in range(4)]

    await asyncio.gather(*(each.prepare(links) for each in configurators * 3))

    assert host.links() == {"lo", "ens3", "ens4", "bd0", "bd0.9"}
    assert is_up(host.link("bd0.9"))
    assert host.link("ens3")["master"] == host.link("ens4")["master"] == "bd0"


@pytest.fixture
async def agent_socket() -> AsyncIterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ow-"))
    settings = Settings(
        node_name="node-1",
        socket_path=str(directory / "a.sock"),
        plugin_log_path=str(directory / "plugin.log"),
        health_port=0,
        metrics_port=0,
    )
    async with running(settings, MemoryStore()):
        yield directory / "a.sock"
    shutil.rmtree(directory)


async def test_the_installed_executable_creates_a_vlan(agent_socket: Path) -> None:
    subprocess.run(["ip", "link", "add", "own0", "type", "dummy"], check=True)
    installer.install(agent_socket.parent / "bin", agent_socket.parent / "net.d")
    conf = {
        "cniVersion": "0.3.1",
        "name": "lan",
        "type": "ifacer",
        "interfaces": ["own0"],
        "vlanID": 77,
        "ipam_unix_socket_path": str(agent_socket),
    }

    plugin_process = await asyncio.to_thread(
        subprocess.run,
        [agent_socket.parent / "bin" / "ifacer"],
        input=json.dumps(conf).encode(),
        env={
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/x",
            "CNI_IFNAME": "eth0",
        },
        capture_output=True,
        check=False,
    )

    assert plugin_process.returncode == 0, plugin_process.stdout
    assert json.loads(plugin_process.stdout) == {"cniVersion": "0.3.1", "dns": {}}
    listing = subprocess.run(
        ["ip", "-j", "link", "show", "own0.77"], capture_output=True, check=True
    )
    assert is_up(json.loads(listing.stdout)[0])
    subprocess.run(["ip", "link", "delete", "own0"], check=True)
