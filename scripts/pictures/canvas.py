"""A small SVG canvas: boxes, frames, arrows and texts, in colours for light and dark pages.

``Canvas.svg`` raises ValueError if a text leaves its box or the canvas, or if texts or boxes
overlap. The sizes of texts are estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple
from xml.sax.saxutils import escape

Kind = Literal["plain", "store", "good", "warm", "muted"]
"""A box's kind. "store": etcd; "warm": a failure; "muted": the colour of the page."""

Anchor = Literal["start", "middle", "end"]
Style = Literal["text", "small", "code", "title", "step"]

LINE_PX: Final = 17
"""The distance between two lines of text in a box."""

_BOLD_RATIO: Final = 1.06
"""Width of bold text relative to normal text."""

_ASCENT_EM: Final = 0.8
"""Height of a text above its baseline."""

_SIZE_PX: Final[dict[Style, float]] = {
    "text": 13.0,
    "small": 12.0,
    "code": 12.0,
    "title": 14.0,
    "step": 12.0,
}
_WIDTH_EM: Final[dict[Style, float]] = {
    "text": 0.53,
    "small": 0.53,
    "code": 0.602,
    "title": 0.57,
    "step": 0.55,
}
"""Mean width of a character; exact for "code", because that font is monospaced."""


class Palette(NamedTuple):
    """The colours of one colour scheme. ``boxes``: kind -> (fill, stroke)."""

    paper: str
    ink: str
    faint: str
    line: str
    boxes: Mapping[Kind, tuple[str, str]]


_LIGHT: Final = Palette(
    paper="#ffffff",
    ink="#1f2933",
    faint="#52606d",
    line="#52606d",
    boxes={
        "plain": ("#f0f4f8", "#829ab1"),
        "store": ("#dceefb", "#2680c2"),
        "good": ("#e3f9e5", "#3f9142"),
        "warm": ("#fff3c4", "#cb6e17"),
        "muted": ("#ffffff", "#bcccdc"),
    },
)
_DARK: Final = Palette(
    paper="#1e2329",
    ink="#e4e7eb",
    faint="#a9b5c1",
    line="#a9b5c1",
    boxes={
        "plain": ("#2b333c", "#7b8794"),
        "store": ("#16405f", "#62b0e8"),
        "good": ("#1c4024", "#6bc174"),
        "warm": ("#4a3410", "#f0b429"),
        "muted": ("#1e2329", "#52606d"),
    },
)


class Area(NamedTuple):
    """A rectangle in pixels, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def contains(self, other: Area) -> bool:
        return (
            self.x <= other.x
            and self.y <= other.y
            and other.x + other.width <= self.x + self.width
            and other.y + other.height <= self.y + self.height
        )

    def overlaps(self, other: Area) -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


class Canvas:
    """One picture. ``title`` and ``description`` are for screen readers."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self._page = Area(0, 0, width, height)
        self._title = title
        self._description = description
        self._shapes: list[str] = []
        self._labels: list[str] = []
        self._boxes: list[Area] = []
        self._texts: list[tuple[str, Area]] = []
        self._faults: list[str] = []

    def frame(self, area: Area, caption: str, kind: Kind = "muted") -> None:
        """Draw a dashed border with a caption."""
        x, y, width, height = area
        self._shapes.append(
            f'<rect class="frame s-{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
            f'height="{height:g}" rx="8"/>'
        )
        self.text(x + 12, y + 20, caption, "title")

    def box(self, area: Area, lines: Sequence[str], kind: Kind = "plain") -> None:
        """Draw a box with centred lines. The first line is bold; lines in backquotes are code."""
        x, y, width, height = area
        self._boxes.append(area)
        self._shapes.append(
            f'<rect class="box f-{kind} s-{kind}" x="{x:g}" y="{y:g}" width="{width:g}" '
            f'height="{height:g}" rx="6"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * LINE_PX / 2 + 4.5
        for number, line in enumerate(lines):
            is_code, is_first = line.startswith("`"), number == 0
            style: Style = "text" if is_first else "small"
            if is_code:
                style = "code"
            extent = self.text(
                x + width / 2,
                top + number * LINE_PX,
                line.strip("`"),
                style,
                "middle",
                bold=is_first and not is_code,
            )
            if not area.contains(extent):
                self._faults.append(f"{line!r} leaves its box")

    def text(
        self,
        x: float,
        y: float,
        content: str,
        style: Style = "text",
        anchor: Anchor = "start",
        *,
        bold: bool = False,
    ) -> Area:
        """Draw one line of text; return the area that it covers. ``y``: the baseline."""
        size = _SIZE_PX[style]
        width = len(content) * size * _WIDTH_EM[style] * (_BOLD_RATIO if bold else 1.0)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        extent = Area(left, y - size * _ASCENT_EM, width, size)
        self._texts.append((content, extent))
        weight = " b" if bold else ""
        self._labels.append(
            f'<text class="{style}{weight}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">'
            f"{escape(content)}</text>"
        )
        return extent

    def arrow(
        self,
        points: Sequence[tuple[float, float]],
        *,
        dashed: bool = False,
        two_heads: bool = False,
        headless: bool = False,
    ) -> None:
        """Draw a line through the points, with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        classes = "arrow dashed" if dashed else "arrow"
        heads = "" if headless else ' marker-end="url(#head)"'
        heads += ' marker-start="url(#tail)"' if two_heads else ""
        self._shapes.append(f'<polyline class="{classes}" points="{path}"{heads}/>')

    def step(self, x: float, y: float, number: int) -> None:
        self._labels.append(f'<circle class="disc" cx="{x:g}" cy="{y:g}" r="10"/>')
        self._labels.append(
            f'<text class="step b" x="{x:g}" y="{y + 4:g}" text-anchor="middle">{number}</text>'
        )

    def svg(self) -> str:
        """Return the SVG text. Raises ValueError for the faults that the module docstring lists."""
        self._check()
        width, height = self._page.width, self._page.height
        return "\n".join(
            [
                (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
                    f'width="{width:g}" height="{height:g}" role="img" aria-labelledby="t d">'
                ),
                f'<title id="t">{escape(self._title)}</title>',
                f'<desc id="d">{escape(self._description)}</desc>',
                _STYLE,
                f'<rect class="paper" width="{width:g}" height="{height:g}" rx="10"/>',
                *self._shapes,
                *self._labels,
                "</svg>\n",
            ]
        )

    def _check(self) -> None:
        for content, extent in self._texts:
            if not self._page.contains(extent):
                self._faults.append(f"{content!r} leaves the canvas")
            self._faults += (
                f"{content!r} crosses the edge of a box"
                for box in self._boxes
                if box.overlaps(extent) and not box.contains(extent)
            )
        for number, (content, extent) in enumerate(self._texts):
            self._faults += (
                f"{content!r} covers {other!r}"
                for other, covered in self._texts[:number]
                if extent.overlaps(covered)
            )
        for number, box in enumerate(self._boxes):
            self._faults += (
                f"the boxes {box} and {other} overlap"
                for other in self._boxes[:number]
                if box.overlaps(other)
            )
        if self._faults:
            raise ValueError(f"{self._title}: " + "; ".join(self._faults))


def _rules(colours: Palette) -> str:
    paper, ink, faint, line, boxes = colours
    rules = [
        f".paper{{fill:{paper}}}",
        f"text{{fill:{ink}}}",
        f".small{{fill:{faint}}}",
        f".arrow{{stroke:{line}}}",
        f".head{{fill:{line}}}",
        f".disc{{fill:{ink}}}",
        f".step{{fill:{paper}}}",
    ]
    for kind, (fill, stroke) in boxes.items():
        rules.append(f".f-{kind}{{fill:{fill}}}.s-{kind}{{stroke:{stroke}}}")
    return "".join(rules)


_STYLE: Final = (
    "<style>"
    'text{font-family:system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;font-size:13px}'
    ".small{font-size:12px}.title{font-size:14px;font-weight:600}.b{font-weight:600}"
    '.code{font-family:"DejaVu Sans Mono",ui-monospace,Menlo,Consolas,monospace;font-size:12px}'
    ".step{font-size:12px}.box{stroke-width:1.3}.frame{fill:none;stroke-width:1.3;"
    "stroke-dasharray:6 4}.arrow{fill:none;stroke-width:1.5}.dashed{stroke-dasharray:5 4}"
    f"{_rules(_LIGHT)}"
    f"@media (prefers-color-scheme: dark){{{_rules(_DARK)}}}"
    "</style>"
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
    'markerHeight="8" orient="auto"><path class="head" d="M0,1 L10,5 L0,9 z"/></marker>'
    '<marker id="tail" viewBox="0 0 10 10" refX="1" refY="5" markerWidth="8" markerHeight="8" '
    'orient="auto"><path class="head" d="M10,1 L0,5 L10,9 z"/></marker></defs>'
)
