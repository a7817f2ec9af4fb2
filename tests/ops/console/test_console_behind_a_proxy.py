"""The console behind a reverse proxy that terminates TLS and serves the console below a path."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import trustme

from core.eventstore.memory_store import MemoryStore
from ops.console.web_server import SECURITY_HEADERS
from tests.support.browser import require_chromium, running_browser
from tests.support.console_harness import (
    HELD_ADDRESS,
    WIDE_REQUEST,
    ConsoleHarness,
    running_console,
)
from tests.support.deadlines import DEADLINE_S
from tests.support.node_harness import pod
from tests.support.reverse_proxy import ReverseProxy, reverse_proxy

PREFIX = "/net/console/"


class ProxiedConsole(NamedTuple):
    """A console behind a proxy. ``authority`` issued the proxy's certificate."""

    console: ConsoleHarness
    proxy: ReverseProxy
    authority: trustme.CA

    def client(self) -> aiohttp.ClientSession:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


@pytest.fixture
async def proxied_console(tmp_path: Path) -> AsyncIterator[ProxiedConsole]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with running_console(MemoryStore(), "console", tmp_path / "archive") as console:
        port = urlsplit(console.url).port
        assert port is not None
        async with reverse_proxy(port, PREFIX, context) as proxy:
            yield ProxiedConsole(console, proxy, authority)


async def test_pages_and_event_streams_work_below_the_proxys_path(
    proxied_console: ProxiedConsole,
) -> None:
    url = proxied_console.proxy.url
    async with proxied_console.client() as client:
        async with client.get(url) as page:
            assert page.status == 200
            policy = page.headers["Content-Security-Policy"]
            assert policy == SECURITY_HEADERS["Content-Security-Policy"]
        async with client.get(f"{url}api/v1/addresses/{HELD_ADDRESS}") as answer:
            assert (await answer.json())["state"] == "allocated"
        async with client.get(f"{url}api/v1/events/stream") as stream:
            async with asyncio.timeout(DEADLINE_S):
                assert await stream.content.readuntil(b"\n\n") == b":\n\n"
                await proxied_console.console.node_a.add(pod("late-0"), request=WIDE_REQUEST)
                message = await stream.content.readuntil(b"\n\n")
            assert b"shop/late-0" in message


async def test_every_request_of_a_browser_stays_below_the_proxys_path(
    proxied_console: ProxiedConsole, tmp_path: Path
) -> None:
    require_chromium()
    url = proxied_console.proxy.url
    (tmp_path / "browser").mkdir()
    async with running_browser(tmp_path / "browser") as browser:
        page = await browser.open("about:blank")
        # The browser does not trust the authority of this test.
        await page.send("Security.setIgnoreCertificateErrors", ignore=True)
        await page.send("Page.navigate", url=f"{url}#/events?namespace=shop")
        await page.expect("document.querySelector('.live')?.classList.contains('is-connected')")
        await page.expect("document.querySelector('tbody tr') !== null")
        await proxied_console.console.node_a.add(pod("late-1"), request=WIDE_REQUEST)
        await page.expect("document.querySelector('td a[href*=\"late-1\"]') !== null")

        await page.evaluate(f"location.hash = '#/addresses/{HELD_ADDRESS}?at=2026-01-01T12:03:00Z'")
        await page.expect("document.body.innerText.includes('allocated to shop/web-1')")
        assert page.errors == []  # the Content-Security-Policy blocked nothing
        foreign_requests = [
            request for request in page.requests if not request.startswith((url, "data:"))
        ]
        assert foreign_requests == []
    assert proxied_console.proxy.paths_outside_prefix == []
