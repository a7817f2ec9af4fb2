"""The stored pictures equal what ``scripts.pictures`` draws. Overlaps are refused."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from scripts.pictures.__main__ import PICTURES_FOLDER, pictures
from scripts.pictures.canvas import Area, Canvas
from scripts.pictures.dashboards.drawing import formatted
from scripts.pictures.dashboards.panels import dashboards
from tests.tidy.sources import PROJECT_ROOT

SVG = "{http://www.w3.org/2000/svg}"
PICTURE_BYTES_MAX = 150_000


def test_the_stored_pictures_equal_the_drawn_pictures() -> None:
    drawn = {f"{name}.svg": canvas.svg() for name, canvas in pictures().items()}
    stored = {path.name: path.read_text(encoding="utf-8") for path in PICTURES_FOLDER.glob("*.svg")}

    assert stored == drawn, "run python -m scripts.pictures"


def test_every_dashboard_can_be_drawn_and_its_picture_is_shown() -> None:
    page = (PROJECT_ROOT / "docs/how-to/monitor.md").read_text(encoding="utf-8")
    for board in dashboards():
        path = PICTURES_FOLDER / f"dashboard-{board.name}.png"

        assert path.exists(), "run python -m scripts.pictures.dashboards"
        assert path.stat().st_size <= PICTURE_BYTES_MAX
        assert f"(../images/{path.name})" in page


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_250.0, "Bps", "1.25 kB/s"),
        (999.6, "Bps", "1 kB/s"),
        (999_999.0, "bps", "1 Mb/s"),
        (-1_500.0, "", "-1.5 k"),
        (1_000.0, "s", "1000 s"),
        (0.9996, "s", "1 s"),
        (0.57, "s", "570 ms"),
        (10.0, "percentunit", "1000 %"),
    ],
)
def test_a_value_has_three_significant_digits_and_no_exponent(
    value: float, unit: str, text: str
) -> None:
    assert formatted(value, unit) == text


@pytest.mark.parametrize("name", sorted(pictures()))
def test_every_picture_has_a_title_a_description_and_colours_for_dark_mode(name: str) -> None:
    root = ET.fromstring(pictures()[name].svg())
    texts = {part: root.findtext(f"{SVG}{part}") or "" for part in ("title", "desc", "style")}

    assert texts["title"]
    assert len(texts["desc"]) > len(texts["title"])
    assert "prefers-color-scheme: dark" in texts["style"]


def test_a_text_that_leaves_its_box_is_refused() -> None:
    canvas = Canvas(300, 100, "title", "description")
    canvas.box(Area(10, 10, 40, 40), ["much longer than the box"])

    with pytest.raises(ValueError, match="leaves its box"):
        canvas.svg()


def test_a_text_that_covers_another_text_is_refused() -> None:
    canvas = Canvas(300, 100, "title", "description")
    canvas.text(10, 50, "first")
    canvas.text(20, 52, "second")

    with pytest.raises(ValueError, match="'second' covers 'first'"):
        canvas.svg()


def test_boxes_that_overlap_are_refused() -> None:
    canvas = Canvas(300, 100, "title", "description")
    canvas.box(Area(10, 10, 80, 40), ["one"])
    canvas.box(Area(60, 10, 80, 40), ["two"])

    with pytest.raises(ValueError, match="overlap"):
        canvas.svg()
