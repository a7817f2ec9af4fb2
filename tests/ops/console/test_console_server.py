"""The HTTP of the console: limits, caching, errors, streams, and headers for browsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from core.errors import AccessDenied
from core.eventstore.memory_store import MemoryStore
from ops.console.console_host import ConsoleHost
from ops.console.console_settings import ConsoleSettings
from ops.console.event_stream import READERS_MAX, EventReader
from ops.console.web_server import API_PATH
from tests.ops.console.conftest import Console
from tests.support.archived_cluster import TEST_KEYS, CniAdd, CniDel
from tests.support.console_harness import served_console
from tests.support.deadlines import DEADLINE_S, until

pytestmark = pytest.mark.etcd


class LimitedAccess:
    """Access that denies every check after the first ``checks``."""

    def __init__(self, checks: int) -> None:
        self.checks_left = checks

    async def check(self, headers: Mapping[str, str]) -> str:
        if not self.checks_left:
            raise AccessDenied("the user may not read the console", subject="Authorization")
        self.checks_left -= 1
        return "a-user"


async def test_a_response_is_cached_only_if_the_request_names_a_position(console: Console) -> None:
    newest = (await console.get("/log"))["last"]["position"]
    url = f"{API_PATH}/overview?at={newest}"
    reply = await console.reply(url)
    assert reply.headers["Cache-Control"].endswith("immutable")
    revalidated = await console.reply(
        f"{API_PATH}/overview?at={newest}", **{"If-None-Match": reply.headers["Etag"]}
    )
    assert (revalidated.status, revalidated.body) == (304, b"")
    live = await console.reply(f"{API_PATH}/pools")
    assert live.headers["Cache-Control"] == "no-cache"
    assert live.headers["Vary"] == "Authorization"


async def test_a_response_to_a_request_with_a_token_is_not_cached(console: Console) -> None:
    async with (
        served_console(console.source, LimitedAccess(checks=1)) as url,
        console.client.get(f"{url}{API_PATH[1:]}/overview?at=0") as response,
    ):
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")


async def test_a_stream_ends_when_its_client_may_no_longer_read(console: Console) -> None:
    access = LimitedAccess(checks=2)
    async with (
        served_console(console.source, access, recheck_s=0.05) as url,
        console.client.get(f"{url}{API_PATH[1:]}/events/stream") as response,
        asyncio.timeout(DEADLINE_S),
    ):
        await response.read()
    assert access.checks_left == 0


async def test_a_console_without_authentication_accepts_only_loopback_host_names(
    tmp_path: Path,
) -> None:
    settings = ConsoleSettings("127.0.0.1", 0, "none")
    host = ConsoleHost(settings, MemoryStore(), TEST_KEYS, tmp_path, cluster="test")
    running = asyncio.ensure_future(host.run())
    await until(lambda: host.port is not None or running.done())
    statuses = {}
    async with aiohttp.ClientSession() as client:
        for name in ("localhost", "attacker.example"):
            url = f"http://127.0.0.1:{host.port}/"
            async with client.get(url, headers={"Host": name}) as response:
                statuses[name] = response.status
    running.cancel()
    await asyncio.wait({running})
    assert statuses == {"localhost": 200, "attacker.example": 403}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/overview?at=999999999", 400, "BadInput"),
        ("/overview?at=yesterday", 400, "BadInput"),
        ("/overview?at=0001-01-01T00:00%2B14:00", 400, "BadInput"),
        ("/log?to=0001-01-01T00:00%2B14:00", 400, "BadInput"),
        ("/log?from=9999-12-31T23:59:59.999999", 400, "BadInput"),
        ("/overview?color=red", 400, "BadInput"),
        ("/pools?limit=100000", 400, "BadInput"),
        ("/pools?cursor=-1", 400, "BadInput"),
        ("/pools/nowhere", 404, "NotFound"),
        ("/pods/shop/unknown", 404, "NotFound"),
        ("/addresses/300.1.1.1", 400, "BadInput"),
        ("/pools/main/addresses?first=fd00::1", 400, "BadInput"),
        ("/events?kind=birthday", 400, "BadInput"),
        ("/workflows?status=Bored", 400, "BadInput"),
        ("/workflows/a/b/c", 404, "ExecutionNotFound"),
        ("/search?q=x", 400, "BadInput"),
        ("/nothing", 404, "NotFound"),
    ],
)
async def test_a_wrong_request_gets_a_code_and_a_message(
    console: Console, path: str, status: int, code: str
) -> None:
    reply = await console.reply(API_PATH + path)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert reply.json["error"]["message"]


async def test_static_files_have_security_headers_and_other_requests_are_refused(
    console: Console,
) -> None:
    page = await console.reply("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in page.headers
    script = await console.reply("/main.js")
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    for path in ("/notes.txt", "/../conftest.py", "/%2e%2e/archive", "/missing.js", "/a%00.js"):
        assert (await console.reply(path)).status == 404
    assert (await console.reply(f"/{'a' * 300}.js")).status == 404
    async with console.client.post(f"{console.url}{API_PATH}/pools") as refused:
        assert refused.status == 405
        assert (await refused.json())["error"]["code"] == "MethodNotAllowed"


async def test_a_stream_sends_missed_events_before_new_events(console: Console) -> None:
    events = (await console.get("/events?after=0"))["items"]
    last_received = events[2]
    headers = {"Last-Event-ID": f"{last_received['position']}.{last_received['place']}"}
    url = f"{console.url}{API_PATH}/events/stream"
    async with console.client.get(url, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        missed = [await _message(response.content) for _ in events[3:]]
        assert missed == events[3:]
        await console.cluster.execute([CniAdd("node-a", "late")])
        assert (await _message(response.content))["subject"] == "pod/shop/late"
    async with console.client.get(
        f"{url}?namespace=shop&after=0&kind=addresses-released"
    ) as response:
        assert (await _message(response.content))["subject"] == "pod/shop/web-1"


async def _message(content: object) -> dict[str, object]:
    async for line in content:  # type: ignore[attr-defined]
        if line.startswith(b"data: "):
            data: dict[str, object] = json.loads(line[6:])
            return data
    raise AssertionError("the stream has ended")


async def test_a_stream_that_the_client_closes_logs_no_error(
    console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    feed = console.source.feed
    async with console.client.get(f"{console.url}{API_PATH}/events/stream?after=0") as response:
        await _message(response.content)
        assert len(feed._readers) == 1
    await console.cluster.execute([CniAdd("node-a", "late"), CniDel("node-a", "late")])
    await until(lambda: not feed._readers)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_number_of_streams_is_limited(console: Console) -> None:
    feed = console.source.feed
    feed._readers |= {EventReader() for _ in range(READERS_MAX)}
    reply = await console.reply(f"{API_PATH}/events/stream")
    assert (reply.status, reply.json["error"]["code"]) == (503, "Overloaded")
