"""A container registry for pushes and pulls by OCI's protocol, without TLS and users.

    python -m tests.installation.registry_server DIRECTORY ADDRESS PORT

A request names its registry in the Host header or in containerd's query parameter ``ns``. All
repositories share the blobs.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

CHUNK_BYTES: Final = 1 << 20
MANIFEST_BYTES_MAX: Final = 4 << 20
"""OCI's limit."""

_MEDIA_TYPES: Final = "application/vnd.oci.image."
_PATH: Final = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>blobs|manifests)/(?P<rest>.+)")
_UPLOAD: Final = "uploads/"


class Handler(BaseHTTPRequestHandler):
    """Answers requests; ``data`` is the directory of blobs and manifests."""

    protocol_version = "HTTP/1.1"
    data: Path

    def do_GET(self) -> None:
        """Send a blob or a manifest; for /v2/, send only the status 200, as OCI requires."""
        if self.path in {"/v2/", "/v2"}:
            self._answer(HTTPStatus.OK)
            return
        kind, repository, reference = self._target()
        if kind == "manifests":
            path = manifest_path(self.data, self._registry(), repository, reference)
        else:
            path = self.data / "blobs" / reference
        if not path.is_file():
            self._answer(HTTPStatus.NOT_FOUND)
            return
        self._send_file(path, is_manifest=kind == "manifests")

    do_HEAD = do_GET  # noqa: N815  # the name in the base class

    def do_POST(self) -> None:
        """Begin the upload of a blob, unless the server already has the blob (``mount``)."""
        _, repository, _ = self._target()
        (mounted,) = parse_qs(urlsplit(self.path).query).get("mount", [""])
        if mounted and (self.data / "blobs" / mounted).is_file():
            location = f"/v2/{repository}/blobs/{mounted}"
            self._answer(HTTPStatus.CREATED, Location=location)
            return
        upload = f"{_UPLOAD}{uuid.uuid4().hex}"
        (self.data / upload).touch()
        self._answer(HTTPStatus.ACCEPTED, Location=f"/v2/{repository}/blobs/{upload}")

    def do_PATCH(self) -> None:
        _, repository, upload = self._target()
        self._append(self.data / upload)
        self._answer(HTTPStatus.ACCEPTED, Location=f"/v2/{repository}/blobs/{upload}")

    def do_PUT(self) -> None:
        """Store a blob or a manifest; refuse content that does not match its digest."""
        kind, repository, reference = self._target()
        if kind == "manifests":
            self._put_manifest(repository, reference)
            return
        path = self.data / reference
        self._append(path)
        (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
        with path.open("rb") as file:
            is_valid = digest == f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if not is_valid:
            path.unlink()
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        path.rename(self.data / "blobs" / digest)
        self._answer(HTTPStatus.CREATED, Location=f"/v2/{repository}/blobs/{digest}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the parameter of the base class
        sys.stderr.write(f"{format % args}\n")

    def _put_manifest(self, repository: str, reference: str) -> None:
        body = b"".join(self._body())
        if len(body) > MANIFEST_BYTES_MAX:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        digest = digest_of(body)
        if reference.startswith("sha256:") and reference != digest:
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        for name in {reference, digest}:
            path = manifest_path(self.data, self._registry(), repository, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        location = f"/v2/{repository}/manifests/{digest}"
        self._answer(HTTPStatus.CREATED, Location=location, **{"Docker-Content-Digest": digest})

    def _target(self) -> tuple[str, str, str]:
        """(kind, repository, rest) of the request's path; rest is a reference or an upload."""
        match = _PATH.fullmatch(urlsplit(self.path).path)
        if match is None or ".." in self.path:
            raise ValueError(f"{self.path} is not a path of a registry")
        return match["kind"], match["repository"], match["rest"]

    def _registry(self) -> str:
        (name,) = parse_qs(urlsplit(self.path).query).get("ns", [self.headers["Host"]])
        return name.partition(":")[0]

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            remaining = int(self.headers.get("Content-Length") or 0)
            while remaining and (part := self.rfile.read(min(remaining, CHUNK_BYTES))):
                remaining -= len(part)
                yield part
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _append(self, path: Path) -> None:
        with path.open("ab") as file:
            for part in self._body():
                file.write(part)

    def _send_file(self, path: Path, *, is_manifest: bool) -> None:
        content_type = "application/octet-stream"
        digest = path.name
        if is_manifest:
            body = path.read_bytes()
            content_type, digest = media_type(json.loads(body)), digest_of(body)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            with path.open("rb") as file:
                while part := file.read(CHUNK_BYTES):
                    self.wfile.write(part)

    def _answer(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def manifest_path(data: Path, registry: str, repository: str, reference: str) -> Path:
    """The file of a manifest; ``reference`` is a tag or a digest."""
    return data / "manifests" / registry / repository / reference


def media_type(manifest: dict[str, str]) -> str:
    default = f"{_MEDIA_TYPES}{'index' if 'manifests' in manifest else 'manifest'}.v1+json"
    return manifest.get("mediaType") or default


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def main(directory: str, address: str, port: str) -> None:
    Handler.data = Path(directory)
    for name in ("blobs", "uploads", "manifests"):
        (Handler.data / name).mkdir(parents=True, exist_ok=True)
    ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
