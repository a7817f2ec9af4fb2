"""A console on a real etcd; the first part of the log is archived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from core.domain.configuration.commands import ApplyRecord, ApplyReservation, QuarantineAddress
from core.domain.coordinators import COORDINATOR_KIND, Coordinator
from core.domain.events import RecordDefined
from core.domain.model import Reservation
from core.eventstore.etcd import EtcdStore
from core.process.tcp_port import TcpPort
from ops.console.console_data import ConsoleSource
from ops.console.web_server import API_PATH, CONNECTIONS_MAX, ConsoleServer
from tests.support.archived_cluster import (
    TEST_KEYS,
    ArchivedCluster,
    CniAdd,
    CniDel,
    Configure,
    archived_cluster,
)
from tests.support.http_caller import HttpReply

COOL_DOWN_S = 36_000.0
"""Longer than any test, so a released address stays in cool-down."""

MAIN_SIZE = 6
"""The pool ``main`` has 10.6.0.1 to 10.6.0.6."""

SIX_SIZE = 5
"""The pool ``six`` has fd00:6::1 to fd00:6::5."""


COORDINATOR = RecordDefined(
    *(COORDINATOR_KIND, "", "default"),
    coordinator=Coordinator(
        {"mode": '"auto"'}, phase="Synced", overlay_pod_cidr=("10.244.0.0/16",)
    ),
)


class Console(NamedTuple):
    """A console that listens at ``url``, the cluster that it shows, and an HTTP client."""

    cluster: ArchivedCluster
    source: ConsoleSource
    url: str
    client: aiohttp.ClientSession

    async def reply(self, path: str, **headers: str) -> HttpReply:
        async with self.client.get(self.url + path, headers=headers) as response:
            return HttpReply(response.status, await response.read(), dict(response.headers))

    async def get(self, path: str) -> Any:
        """The JSON document at ``path``, which is relative to ``API_PATH``."""
        reply = await self.reply(API_PATH + path)
        assert reply.status == 200, (path, reply.status, reply.body)
        return reply.json


@pytest.fixture
async def cluster(etcd_store: EtcdStore, tmp_path: Path) -> AsyncIterator[ArchivedCluster]:
    async with archived_cluster(tmp_path / "archive", etcd_store) as cluster:
        await cluster.execute(
            [
                *(CniAdd("node-a", f"web-{number}") for number in range(3)),
                Configure(QuarantineAddress("10.6.0.9", "another host", "02:00:01")),
                Configure(ApplyReservation(Reservation("dns", 4, ("10.6.0.8",)))),
                Configure(ApplyRecord(COORDINATOR)),
            ]
        )
        await cluster.seal()
        await cluster.execute([CniDel("node-a", "web-1"), CniAdd("node-b", "db-0")])
        yield cluster


@pytest.fixture
async def console(cluster: ArchivedCluster, tmp_path: Path) -> AsyncIterator[Console]:
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text("<!doctype html><title>console</title>")
    (static / "main.js").write_text("export {}")
    (static / "notes.txt").write_text("not served")
    source = ConsoleSource(
        *(cluster.store, TEST_KEYS, cluster.directory), cluster="test", cool_down_s=COOL_DOWN_S
    )
    server = ConsoleServer(source, static=static)
    port = TcpPort(server.app(), "console", CONNECTIONS_MAX)
    await port.open("127.0.0.1", 0, "console")
    async with aiohttp.ClientSession() as client:
        yield Console(cluster, source, f"http://127.0.0.1:{port.port}", client)
    await server.close()
    await port.close()
