"""A watch whose packets the kernel drops, in the network namespace of this process.

``unshare --net python -m tests.supervision.dropping etcd|kubernetes DIRECTORY``. Nothing is reset
and nothing is closed: the connection is half open, as behind a cable that was pulled. Exit code 0
only if the watch was found stale and went on once packets passed again.
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
from core.kubernetes import api as apis
from core.kubernetes import informer
from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from core.kubernetes.informer import Informer
from core.process.supervision import Supervisor
from core.projections import configuration_view
from core.projections.configuration_view import TASK, ConfigurationView
from tests.support.etcd import EtcdCluster
from tests.support.kubernetes import ApiServer

SECONDS_MAX: Final = 120.0
"""The deadline of a step, also on a slow machine."""

NEVER_S: Final = 3_600.0
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
    follow = {"etcd": follow_etcd, "kubernetes": follow_kubernetes}[kind]
    with pytest.MonkeyPatch.context() as bounds:
        asyncio.run(follow(Path(directory), bounds))


async def follow_etcd(directory: Path, bounds: pytest.MonkeyPatch) -> None:
    """A configuration view becomes stale, and recovers."""
    for module in (watches, configuration_view):
        bounds.setattr(module, "WATCH_SILENT_S_MAX", 2.0)
    bounds.setattr(watches, "WATCH_PROGRESS_S", 0.5)
    keys, supervisor = Keys("dropped"), Supervisor()
    with EtcdCluster(directory) as etcd:
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        view = ConfigurationView(store, keys, supervisor)
        await view.start()
        await until(lambda: supervisor.fault(TASK) is None)

        with dropped(etcd.endpoints[0]):
            await until(lambda: supervisor.fault(TASK) is not None)
            assert "received nothing for" in str(supervisor.fault(TASK))
        writer = EtcdStore(EtcdSettings(etcd.endpoints))
        await writer.commit([], [Put(keys.guard("pools", 4), b"")])
        await until(lambda: keys.guard("pools", 4) in view.current.guards)
        await until(lambda: supervisor.fault(TASK) is None)

        await view.close()
        await supervisor.close()
        await store.close()
        await writer.close()


async def follow_kubernetes(directory: Path, bounds: pytest.MonkeyPatch) -> None:
    """An informer detects it by TCP timeouts, and starts a new watch."""
    bounds.setattr(apis, "SILENCE_S_MAX", NEVER_S)
    bounds.setattr(informer, "PAUSE_S_MAX", 0.5)
    # Without a default route the server cannot choose the address that it publishes.
    with ApiServer(directory, flags={"advertise-address": "192.0.2.1"}) as server:
        api = Api(await open_connection(str(server.kubeconfig)))
        namespaces = Informer(api, "/api/v1/namespaces")
        following = asyncio.ensure_future(namespaces.run())
        await until(namespaces.listed.is_set)
        make(server, "reported-by-the-watch")
        await until(lambda: ("", "reported-by-the-watch") in namespaces.objects)

        with dropped(f"127.0.0.1:{server.port}"):
            await until(lambda: bool(namespaces.fault))
        make(server, "made-later")
        await until(lambda: ("", "made-later") in namespaces.objects and not namespaces.fault)

        following.cancel()
        await asyncio.wait({following})
        await api.close()


def make(server: ApiServer, name: str) -> None:
    """A namespace of Kubernetes."""
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


@contextmanager
def dropped(endpoint: str) -> Iterator[None]:
    """Drop every packet from and to a port of this namespace."""
    rules = RULES.format(port=endpoint.rpartition(":")[2])
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    yield
    subprocess.run(["nft", "delete", "table", "inet", "half_open"], check=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1:])
