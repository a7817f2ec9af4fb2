"""The role of a client certificate's user limits what etcd permits the client."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from core.allocation.guid_registry import GuidRegistry
from core.domain.events import Cause
from core.domain.sriov.model import VfGuid
from core.errors import StoreRejected, StoreUnavailable
from core.eventstore.etcd import EtcdSettings, EtcdStore, messages
from core.eventstore.etcd.access_control import enable_access_control
from core.eventstore.etcd.calls import Calls
from core.eventstore.etcd.maintenance import EtcdMaintenance
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import Delete, Get, Put
from core.eventstore.roles import (
    AGENT_USER,
    CONTROLLER_USER,
    ROOT_USER,
    EtcdRole,
    Permission,
    roles_of,
)
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import running
from tests.support.etcd import Certificates, EtcdCluster
from tests.support.http_caller import over_socket

pytestmark = pytest.mark.etcd

CLUSTER = "default"
KEYS = Keys(CLUSTER)
NODE = "node-1"
USER_WITHOUT_ROLE = "etcd-member"
USERS = (AGENT_USER, CONTROLLER_USER, ROOT_USER, USER_WITHOUT_ROLE)
CONFLICT_REQUEST = {
    "podName": "web-1",
    "podNamespace": "shop",
    "podUID": "uid-web-1",
    "containerID": "c-web-1",
    "isReleaseConflictIPs": True,
}
PROGRAM = Path(sys.executable).with_name("orbweaver-controller")


class EtcdWithRoles:
    """An etcd with client certificates, and the command that enables its access control."""

    def __init__(self, cluster: EtcdCluster, directory: Path) -> None:
        self.cluster = cluster
        self._directory = directory

    def settings(self, user: str) -> EtcdSettings:
        """Client settings with the certificate of ``user``."""
        path = self._directory
        certificate, key = (str(path / f"{user}.{kind}") for kind in ("pem", "key"))
        return EtcdSettings(self.cluster.endpoints, str(path / "ca.pem"), certificate, key)

    def enable_access_control(self, user: str = ROOT_USER) -> subprocess.CompletedProcess[str]:
        """Run ``orbweaver-controller etcd-access``, as the chart's Job does."""
        settings = self.settings(user)
        variables = {
            "ORBWEAVER_ETCD_ENDPOINTS": ",".join(settings.endpoints),
            "ORBWEAVER_ETCD_CA_FILE": settings.ca_file,
            "ORBWEAVER_ETCD_CERT_FILE": settings.cert_file,
            "ORBWEAVER_ETCD_KEY_FILE": settings.key_file,
            "ORBWEAVER_CLUSTER": CLUSTER,
        }
        return subprocess.run(
            [PROGRAM, "etcd-access"],
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def etcd_with_roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdWithRoles]:
    path = tmp_path_factory.mktemp("etcd_with_roles")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(path / "ca.pem"))
    issued = {user: authority.issue_cert(f"{user}@orbweaver", common_name=user) for user in USERS}
    issued["server"] = authority.issue_cert("127.0.0.1")
    for name, certificate in issued.items():
        certificate.private_key_pem.write_to_path(str(path / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(path / f"{name}.pem"))
    certificates = Certificates(path / "ca.pem", path / "server.pem", path / "server.key")
    with EtcdCluster(path, certificates=certificates) as cluster:
        new_etcd = EtcdWithRoles(cluster, path)
        completed = new_etcd.enable_access_control()
        assert completed.returncode == 0, completed.stderr
        yield new_etcd


@pytest.fixture
async def agent(etcd_with_roles: EtcdWithRoles) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(etcd_with_roles.settings(AGENT_USER))
    yield store
    await store.close()


@pytest.fixture
async def controller(etcd_with_roles: EtcdWithRoles) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(etcd_with_roles.settings(CONTROLLER_USER))
    yield store
    await store.close()


GUID = VfGuid(
    "02:00:00:00:00:00:00:01", nic="0000:3b:00.0", nic_guid="10:70:fd:03:00:16:05:48", vf=0
)
KEYS_CLOSED_TO_AGENTS = {
    "a pool": KEYS.pool("lan"),
    "a subnet": KEYS.subnet("lan"),
    "a reservation": KEYS.reservation("gateways"),
    "a record": KEYS.record("Node", "", NODE),
    # The numbers are IP families.
    "the guard of pools": KEYS.guard("pools", 4),
    "the guard of subnets": KEYS.guard("subnets", 4),
    "the guard of reservations": KEYS.guard("reservations", 6),
    "the guard of records": KEYS.guard("records", 4),
    "the view of an application": KEYS.application_view("shop.web"),
    "the checkpoint": KEYS.meta("projector"),
    "the archive's cursor": KEYS.meta("archive"),
    "the leader's lease": KEYS.lease("controller"),
    "the log of a controller": KEYS.log(controller_writer("jobs-00"), 1),
    "the head of a controller": KEYS.head(controller_writer("kubernetes")),
    "a workflow": KEYS.prefix("workflow") + b"default/open/00/x",
    "another cluster's claim": Keys("other").ip(4, 1),
    "the prefix of the cluster without its last byte": KEYS.root[:-1],
}


@pytest.mark.parametrize("key_name", KEYS_CLOSED_TO_AGENTS)
async def test_an_agent_cannot_write_keys_outside_its_role(
    key_name: str, agent: EtcdStore, controller: EtcdStore
) -> None:
    key = KEYS_CLOSED_TO_AGENTS[key_name]

    with pytest.raises(StoreRejected, match="permission denied"):
        await agent.commit([], [Put(key, b"forged")])
    if key.startswith(KEYS.root):
        assert (await agent.read([Get(key)])).ranges[0].count == 0
        assert (await controller.commit([], [Put(key, b"")])).succeeded
        await controller.commit([], [Delete(key)])


async def test_the_role_of_an_agent_permits_all_its_work(
    agent: EtcdStore, controller: EtcdStore
) -> None:
    with tempfile.TemporaryDirectory(prefix="ow-") as short_path:
        settings = Settings(
            node_name=NODE,
            cluster=CLUSTER,
            socket_path=f"{short_path}/a.sock",
            health_port=0,
            metrics_port=0,
            plugin_log_path=f"{short_path}/plugin.log",
        )
        async with running(settings, agent) as node:
            node.store = controller  # agents cannot write pools
            await node.pool("agents", "10.7.0.0/24", "10.7.0.10-10.7.0.20")
            first = await node.add("web-0")
            repeated = await node.add("web-0")
            await node.delete("web-0")
            await node.add("web-1")
            before = await node.claims()
            conflict = await over_socket(
                settings.socket_path, "DELETE", "/v1/ipam/ips", CONFLICT_REQUEST
            )
            view = node.process.parts.view
            await view.wait_for(lambda: len(view.current.quarantine) == 1)
            after = await node.claims()
            parts = node.process.parts
            registry = GuidRegistry(agent, KEYS, parts.writer, NODE, Cause("agent"))
            conflicts = await registry.assign([GUID])
            await registry.release([(GUID, "removed")])

    assert conflicts == []
    assert first == repeated
    assert (len(before), after) == (1, {})
    assert conflict.status == 200, conflict.body


async def test_a_client_without_role_or_certificate_reads_nothing(
    etcd_with_roles: EtcdWithRoles,
) -> None:
    store_without_role = EtcdStore(etcd_with_roles.settings(USER_WITHOUT_ROLE))
    anonymous = etcd_with_roles.settings(AGENT_USER)._replace(cert_file="", key_file="")
    anonymous_store = EtcdStore(anonymous._replace(read_deadline_s=1.0))

    with pytest.raises(StoreRejected, match="permission denied"):
        await store_without_role.read([Get(KEYS.pool("lan"))])
    with pytest.raises(StoreUnavailable):
        await anonymous_store.read([Get(KEYS.pool("lan"))])
    for store in (store_without_role, anonymous_store):
        await store.close()


def test_enabling_access_control_a_second_time_needs_root(
    etcd_with_roles: EtcdWithRoles,
) -> None:
    assert etcd_with_roles.enable_access_control().returncode == 0

    completed = etcd_with_roles.enable_access_control(AGENT_USER)
    assert completed.returncode == 1
    assert "permission denied" in completed.stderr


async def test_enabling_access_control_replaces_the_permissions_of_a_role(
    etcd_with_roles: EtcdWithRoles,
) -> None:
    read_write = Permission(b"/a/", b"/a0", may_write=True)
    read_only = read_write._replace(may_write=False)
    other = Permission(b"/b/", b"/b0", may_write=True)
    root = etcd_with_roles.settings(ROOT_USER)
    role = EtcdRole(name="changing", user="changing", permissions=(read_write, other))
    await enable_access_control(root, [role])
    await enable_access_control(root, [role._replace(permissions=(read_only,))])

    calls = Calls(root)
    answer = await calls.repeat("role_get", messages.AuthRoleGetRequest(role="changing"))
    await calls.close()
    granted = [
        (permission.key, permission.range_end, permission.permType) for permission in answer.perm
    ]
    assert granted == [(b"/a/", b"/a0", messages.READ)]


def test_agents_may_write_no_key_of_a_controller() -> None:
    agent, controller = roles_of(KEYS)
    writable = [permission for permission in agent.permissions if permission.may_write]

    for writer in ("jobs-00", "kubernetes", "admission", "orbctl-3"):
        for key in (KEYS.log(controller_writer(writer), 7), KEYS.head(controller_writer(writer))):
            assert not any(permission.start <= key < permission.end for permission in writable)
            assert any(
                permission.start <= key < permission.end for permission in controller.permissions
            )
    for name in ("node-1", "0-rack", "zebra.example.org", "jobs-00", "9"):
        for key in (KEYS.log(name, 7), KEYS.head(name)):
            assert any(permission.start <= key < permission.end for permission in writable)


async def test_a_controller_may_disarm_alarms_and_only_root_may_defragment(
    etcd_with_roles: EtcdWithRoles,
) -> None:
    controller = EtcdMaintenance(etcd_with_roles.settings(CONTROLLER_USER))
    with pytest.raises(StoreRejected, match="permission denied"):
        await controller.defragment()
    await controller.disarm()

    await EtcdMaintenance(etcd_with_roles.settings(ROOT_USER)).defragment()
