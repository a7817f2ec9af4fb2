"""The console in Chromium, with a long log: the time of the first page and of a slider jump.

The server reads the log before the measurement.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from statistics import median

from bench.figures import Figure, NotTaken, median_figure
from bench.measures.logs import SeededLog, long_log
from bench.rig.lab import Lab
from core.process.tcp_port import TcpPort
from ops.console.console_data import ConsoleSource
from ops.console.web_server import CONNECTIONS_MAX, ConsoleServer
from tests.core.archive.synthetic import BIG_POOL
from tests.support.browser import BROWSER_PROGRAM, Browser, Page, running_browser
from tests.support.etcd import EtcdCluster

JUMPS = 10

SEED = 1
LOADED = (
    "document.querySelector('#main')?.ariaBusy === 'false' && !!document.querySelector('#content')"
)

PAINTED = """new Promise((resolve) => requestAnimationFrame(() => setTimeout(
  () => resolve(performance.now()))))"""
"""JavaScript: milliseconds from the navigation until the content is painted."""

JUMP = """(async (share) => {
  const slider = document.querySelector('[type=range]');
  const old = document.querySelector('#content');
  const begin = performance.now();
  slider.value = Number(slider.min) + share * (Number(slider.max) - Number(slider.min));
  slider.dispatchEvent(new Event('input'));
  while (document.querySelector('#content') === old) {
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return performance.now() - begin;
})"""
"""JavaScript: moves the slider to a share (0 to 1) of its range; returns the milliseconds until new
content."""


def measure(lab: Lab) -> list[Figure]:
    """Measure console_seek_ms and console_first_paint_ms. Raises NotTaken without Chromium."""
    if shutil.which(BROWSER_PROGRAM) is None:
        raise NotTaken(f"no {BROWSER_PROGRAM}: apt-get install chromium")
    log = long_log(lab)
    with lab.etcd(log.data) as etcd:
        paints, jumps, slowest = asyncio.run(_measure(lab, etcd, log))
    unit = f"ms, of {lab.scale.events:,} events and {lab.scale.claims:,} claims"
    note = f"slowest {slowest:.0f} ms"
    return [
        median_figure("console_seek_ms", jumps, unit, note=note),
        median_figure("console_first_paint_ms", paints, unit),
    ]


async def _measure(
    lab: Lab, etcd: EtcdCluster, log: SeededLog
) -> tuple[list[float], list[float], float]:
    async with lab.store(etcd) as store:
        source = ConsoleSource(store, lab.keys, log.archive, cluster="bench")
        await source.log.newest()
        server = ConsoleServer(source)
        port = TcpPort(server.app(), "console", CONNECTIONS_MAX)
        await port.open("127.0.0.1", 0, "console")
        try:
            async with running_browser(lab.new_directory("browser")) as browser:
                return await _rounds(lab, browser, f"http://127.0.0.1:{port.port}/")
        finally:
            await server.close()
            await port.close()


async def _rounds(lab: Lab, browser: Browser, url: str) -> tuple[list[float], list[float], float]:
    rng = random.Random(SEED)
    paints: list[float] = []
    jumps: list[float] = []
    slowest = 0.0
    for _ in lab.rounds():
        page = await browser.open(url)  # in a new browser context, with an empty cache
        await page.expect(LOADED)
        paints.append(float(await page.evaluate(PAINTED)))
        pool_page = await browser.open(f"{url}#/pools/{BIG_POOL.name}")
        await pool_page.expect(
            f"{LOADED} && Number(document.querySelector('[type=range]').max) > 1"
        )
        durations_ms = [await _jump(pool_page, rng.random()) for _ in range(JUMPS)]
        jumps.append(median(durations_ms))
        slowest = max(slowest, *durations_ms)
        assert not page.errors + pool_page.errors, "the pages report errors"
    return paints, jumps, slowest


async def _jump(page: Page, share: float) -> float:
    duration_ms = float(await page.evaluate(f"{JUMP}({share})"))
    await page.expect(LOADED)
    assert await page.evaluate("location.hash.includes('at=')"), "the page does not show the past"
    return duration_ms
