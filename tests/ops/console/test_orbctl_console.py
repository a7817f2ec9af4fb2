"""``orbctl console`` prints its URL and a token, and ends on a signal.

The console requires a token here, because the test enables workflow actions.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from ops.console.web_server import API_PATH
from tests.ops.console.conftest import Console
from tests.support.archived_cluster import ArchivedCluster
from tests.support.etcd import EtcdCluster

pytestmark = pytest.mark.etcd


async def test_orbctl_console_prints_url_and_token_and_ends_on_a_signal(
    etcd: EtcdCluster, cluster: ArchivedCluster
) -> None:
    variables = {
        "ORBWEAVER_ETCD_ENDPOINTS": etcd.endpoints[0],
        "ORBWEAVER_CLUSTER": "test",
        "ORBWEAVER_ARCHIVE_DIR": str(cluster.directory),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli.main", "console", "--port", "0"),
        "--workflow-actions",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
        cwd=Path(__file__).parents[3],
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("console: http://127.0.0.1:")
        url = line.partition(" ")[2].strip()
        line = (await process.stdout.readline()).decode()
        headers = {"Authorization": f"Bearer {line.removeprefix('token: ').strip()}"}
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{url}{API_PATH[1:]}/overview") as response:
                assert response.status == 401
            async with client.get(f"{url}{API_PATH[1:]}/overview", headers=headers) as response:
                assert (await response.json())["totals"]["pods"] == 3
            async with client.get(f"{url}{API_PATH[1:]}/access", headers=headers) as response:
                assert (await response.json())["workflowActions"]
            headers |= {"Host": "attacker.example"}
            async with client.get(f"{url}{API_PATH[1:]}/overview", headers=headers) as response:
                assert response.status == 403
        assert b"indexed " in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_console_of_a_controller_accepts_any_host_header(console: Console) -> None:
    reply = await console.reply(f"{API_PATH}/log", Host="console.example")
    assert reply.status == 200
