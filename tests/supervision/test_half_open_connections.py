"""A watch on a silent connection becomes stale, and the connection is replaced.

``InterruptibleProxy`` acknowledges every byte, so TCP does not detect the failure.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.etcd import watch as watches
from core.eventstore.keys import Keys
from core.eventstore.kv import Put
from core.kubernetes import api_client as apis
from core.kubernetes import http_connection, informer
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.informer import Informer, reflector_task
from core.process.supervision import Supervisor
from core.projections import configuration_view
from core.projections.configuration_view import VIEW_TASK, ConfigurationView
from tests.support.deadlines import until
from tests.support.etcd import EtcdCluster
from tests.support.interruptible_proxy import InterruptibleProxy
from tests.support.kubernetes import ApiServer, missing_programs
from tests.support.parts import API_SERVER, NAMESPACES, needs, require_namespaces


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.close()


async def test_a_configuration_view_is_stale_while_etcd_is_silent_and_then_recovers(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (watches, configuration_view):
        monkeypatch.setattr(module, "WATCH_SILENT_S_MAX", 2.0)
    monkeypatch.setattr(watches, "WATCH_PROGRESS_S", 0.5)
    keys = Keys("proxy")
    with EtcdCluster(tmp_path) as etcd:
        async with InterruptibleProxy(etcd.endpoints[0]) as proxy:
            store = EtcdStore(EtcdSettings((proxy.endpoint,)))
            direct_store = EtcdStore(EtcdSettings(etcd.endpoints))
            view = ConfigurationView(store, keys, supervisor)
            await view.start()
            await until(lambda: 0 < view.age_s() < 2.0)
            fault_before = dict(supervisor.health())[VIEW_TASK]

            proxy.interrupt()
            await until(lambda: dict(supervisor.health())[VIEW_TASK] is not None)
            stale_fault = dict(supervisor.health())[VIEW_TASK]
            # The view receives this change only after it recovers.
            await direct_store.commit([], [Put(keys.guard("pools", 4), b"")])
            proxy.restore()
            await until(lambda: dict(supervisor.health())[VIEW_TASK] is None)
            await until(lambda: keys.guard("pools", 4) in view.current.guards)

            await view.close()
            await store.close()
            await direct_store.close()

    assert fault_before is None
    assert "configuration-view received nothing for" in str(stale_fault)


async def test_a_silent_api_server_is_reported_and_its_watch_recovers(
    bare_server: ApiServer,
    tmp_path: Path,
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apis, "SILENCE_S_MAX", 3.0)
    monkeypatch.setattr(apis, "WATCH_OPEN_S_MAX", 1.0)
    monkeypatch.setattr(apis, "WATCH_S", 2)
    monkeypatch.setattr(informer, "PAUSE_S_MAX", 0.5)
    scheme, _, server_endpoint = bare_server.url.partition("://")
    async with InterruptibleProxy(server_endpoint) as proxy:
        api = Api(
            await open_connection(str(proxied_kubeconfig(bare_server, tmp_path, scheme, proxy)))
        )
        namespaces = Informer(api, "/api/v1/namespaces")
        supervisor.start(reflector_task("watch-namespaces", namespaces.run, [namespaces]))
        await until(namespaces.listed.is_set)
        await until(lambda: dict(supervisor.health())["watch-namespaces"] is None)

        proxy.interrupt()
        await until(lambda: dict(supervisor.health())["watch-namespaces"] is not None)
        silence_fault = str(dict(supervisor.health())["watch-namespaces"])
        name = {"metadata": {"name": "made-in-silence"}}
        bare_server.request("POST", "/api/v1/namespaces", name)
        proxy.restore()
        await until(lambda: ("", "made-in-silence") in namespaces.objects)
        await until(lambda: dict(supervisor.health())["watch-namespaces"] is None)

        await supervisor.close()
        await api.close()

    assert "watch-namespaces: the API server does not answer" in silence_fault


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["etcd", "kubernetes"])
def test_a_watch_is_stale_while_the_kernel_drops_its_packets_and_then_recovers(
    tmp_path: Path, source: str
) -> None:
    require_namespaces()
    if source == "kubernetes" and missing_programs():
        pytest.skip(needs(API_SERVER))
    unshare = ["unshare", "--net"]
    command = [*unshare, "nft", "add", "table", "inet", "tried"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(needs(NAMESPACES, "this kernel does not support nftables"))

    program = [sys.executable, "-m", "tests.supervision.dropped_packets", source, str(tmp_path)]
    completed = subprocess.run([*unshare, *program], capture_output=True, text=True, check=False)

    assert completed.returncode == 0, completed.stderr


async def test_sockets_to_an_api_server_detect_a_dead_peer_with_keepalive() -> None:
    client = http_connection.tcp_socket(
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    )
    with client:
        idle_s, interval_s, probes, unanswered_ms = (
            client.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        )

        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle_s + interval_s * probes <= http_connection.DEAD_PEER_S
        assert unanswered_ms == http_connection.DEAD_PEER_S * 1_000


def proxied_kubeconfig(
    server: ApiServer, directory: Path, scheme: str, proxy: InterruptibleProxy
) -> Path:
    config = yaml.safe_load(server.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"{scheme}://{proxy.endpoint}"
    path = directory / "kubeconfig-by-proxy"
    path.write_text(yaml.safe_dump(config))
    return path
