"""The static files of the console, read once at the start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

STATIC_FOLDER: Final = Path(__file__).parent / "static"

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Suffix -> media type. Files with other suffixes are not served."""


class StaticFile(NamedTuple):
    """A file in memory."""

    body: bytes
    etag: str
    type: str


def static_files(folder: Path) -> Iterator[tuple[str, StaticFile]]:
    """Yield path and content of each file below ``folder`` with a suffix in ``TYPES``."""
    folder = folder.resolve()
    for path in folder.rglob("*"):
        if path.suffix in TYPES and path.is_file() and path.resolve().is_relative_to(folder):
            body = path.read_bytes()
            yield (
                path.relative_to(folder).as_posix(),
                StaticFile(body, etag_of(body), TYPES[path.suffix]),
            )


def etag_of(body: bytes) -> str:
    """The ETag of a response body."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'
