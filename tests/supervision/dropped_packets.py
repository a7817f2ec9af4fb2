"""Drops the packets of a watch in the kernel, and checks that the watch becomes stale and recovers.

    unshare --net python -m tests.supervision.dropped_packets etcd|kubernetes DIRECTORY

The connection is half open: neither reset nor closed. The exit code is 0 if the check passes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.etcd import watch as watches
from core.eventstore.keys import Keys
from core.eventstore.kv import Put
from core.kubernetes import api_client as apis
from core.kubernetes import informer
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.informer import Informer
from core.process.supervision import Supervisor
from core.projections import configuration_view
from core.projections.configuration_view import VIEW_TASK, ConfigurationView
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import ApiServer

STEP_DEADLINE_S: Final = 120.0
UNREACHED_LIMIT_S: Final = 3_600.0
RULES: Final = """
table inet half_open {{
    chain input {{
        type filter hook input priority 0;
        tcp dport {port} drop
        tcp sport {port} drop
    }}
}}
"""


def main(arguments: list[str]) -> None:
    kind, directory = arguments
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    check = {"etcd": check_etcd, "kubernetes": check_kubernetes}[kind]
    with pytest.MonkeyPatch.context() as limits:
        asyncio.run(check(Path(directory), limits))


async def check_etcd(directory: Path, limits: pytest.MonkeyPatch) -> None:
    for module in (watches, configuration_view):
        limits.setattr(module, "WATCH_SILENT_S_MAX", 2.0)
    limits.setattr(watches, "WATCH_PROGRESS_S", 0.5)
    keys, supervisor = Keys("dropped"), Supervisor()
    with EtcdCluster(directory) as etcd:
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        view = ConfigurationView(store, keys, supervisor)
        await view.start()
        await until(lambda: dict(supervisor.health())[VIEW_TASK] is None)

        with dropped_packets(etcd.endpoints[0]):
            await until(lambda: dict(supervisor.health())[VIEW_TASK] is not None)
            assert "received nothing for" in str(dict(supervisor.health())[VIEW_TASK])
        # Only a recovered watch reports this change.
        writer = EtcdStore(EtcdSettings(etcd.endpoints))
        await writer.commit([], [Put(keys.guard("pools", 4), b"")])
        await until(lambda: keys.guard("pools", 4) in view.current.guards)
        await until(lambda: dict(supervisor.health())[VIEW_TASK] is None)

        await view.close()
        await supervisor.close()
        await store.close()
        await writer.close()


async def check_kubernetes(directory: Path, limits: pytest.MonkeyPatch) -> None:
    """Only TCP timeouts can detect the dropped packets here, because no other limit is reached."""
    limits.setattr(apis, "SILENCE_S_MAX", UNREACHED_LIMIT_S)
    limits.setattr(informer, "PAUSE_S_MAX", 0.5)
    # Without a default route the server cannot choose the address that it publishes.
    with ApiServer(directory, flags={"advertise-address": "192.0.2.1"}) as server:
        api = Api(await open_connection(str(server.kubeconfig)))
        namespaces = Informer(api, "/api/v1/namespaces")
        running = asyncio.ensure_future(namespaces.run())
        await until(namespaces.listed.is_set)
        create_namespace(server, "reported-by-the-watch")
        await until(lambda: ("", "reported-by-the-watch") in namespaces.objects)

        with dropped_packets(f"127.0.0.1:{server.port}"):
            await until(lambda: bool(namespaces.fault))
        create_namespace(server, "made-later")
        await until(lambda: ("", "made-later") in namespaces.objects and not namespaces.fault)

        running.cancel()
        await asyncio.wait({running})
        await api.close()


def create_namespace(server: ApiServer, name: str) -> None:
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


@contextmanager
def dropped_packets(endpoint: str) -> Iterator[None]:
    rules = RULES.format(port=endpoint.rpartition(":")[2])
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    yield
    subprocess.run(["nft", "delete", "table", "inet", "half_open"], check=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(STEP_DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1:])
