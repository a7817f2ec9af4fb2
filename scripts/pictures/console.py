"""Takes pictures of the console in Chromium, after the steps of the demo.

    .venv/bin/python -m scripts.pictures.console

Requires root. The pictures show ``NEUTRAL_USER`` instead of this machine's user and host.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image

from ops.cli.global_options import WHO_VARIABLE
from ops.demo.datapath import COORDINATOR_FIELDS, missing_capability
from ops.demo.demo_output import DemoOutput
from ops.demo.demo_state import DemoState
from ops.demo.steps import DEMO_STEPS
from ops.lab.laboratory import Laboratory
from scripts.pictures.__main__ import PICTURES_FOLDER
from tests.support.browser import Page, View, running_browser

COLOURS: Final = 128
NEUTRAL_USER: Final = "admin@workstation"
SHOWN: Final = """document.querySelector('#main')?.ariaBusy === 'false'
  && document.querySelector('#content:not(.old) h2, #content:not(.old) table') !== null"""
"""JavaScript: whether the page shows new content. ``_show`` gives old content the class "old"."""

LATE: Final = """fetch('api/v1/log').then((answer) => answer.json()).then(({first, last}) =>
  new Date(Date.parse(first.time) + 0.9 * (Date.parse(last.time) - Date.parse(first.time)))
    .toISOString())"""
"""JavaScript: the time at nine tenths of the log's duration."""


class ConsolePicture(NamedTuple):
    """A picture of a page, ``height`` pixels high. ``{late}`` in ``path``: ``LATE``'s result."""

    name: str
    path: str
    height: int


PICTURES: Final = (
    ConsolePicture("application", "#/applications/shop/cart", 640),
    ConsolePicture("events", "#/events", 800),
    ConsolePicture("node", "#/nodes/node-b", 980),
    ConsolePicture("past-workflows", "#/workflows?at={late}", 620),
    ConsolePicture("subnet", "#/subnets/lan", 720),
)


def main() -> None:
    """Write ``docs/images/console-NAME.png`` for each page."""
    os.environ[WHO_VARIABLE] = NEUTRAL_USER
    missing = missing_capability()
    laboratory = Laboratory(
        coordinator=None if missing.no_reply_marks else COORDINATOR_FIELDS,
        cluster_ips=not missing.no_services,
    )
    with laboratory:
        state = DemoState(DemoOutput(), laboratory, missing)
        for step in DEMO_STEPS:
            step(state)
        asyncio.run(_take(laboratory.console()))


async def _take(url: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        async with running_browser(Path(profile)) as browser:
            page = await browser.open(url)
            for picture in PICTURES:
                await _show(page, picture)
                path = PICTURES_FOLDER / f"console-{picture.name}.png"
                _write(await page.picture(), path)
                print(
                    f"{path.relative_to(PICTURES_FOLDER.parents[1])}: "
                    f"{path.stat().st_size // 1000} kB"
                )


def _write(png: bytes, path: Path) -> None:
    """Write the picture with few colours, which reduce the file to a third."""
    Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS).save(path, optimize=True)


async def _show(page: Page, picture: ConsolePicture) -> None:
    await page.show_as(View(height=picture.height))
    await page.expect("document.querySelector('#content') !== null")
    late = await page.evaluate(LATE) if "{late}" in picture.path else ""
    path = picture.path.replace("{late}", late)
    await page.evaluate(f"""document.querySelector('#content').classList.add('old');
      location.hash = {path[1:]!r}""")
    await page.expect(SHOWN)
    await page.expect("document.querySelector('.is-connected') !== null")


if __name__ == "__main__":
    main()
