"""HTTP requests to a unix socket or to a URL."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from pathlib import Path
from typing import Any, Final

from ops.lab.identity import LabFailed

ANSWER_DEADLINE_S: Final = 5.0
"""Longer than the time in which an agent detects that etcd does not answer."""


def is_ok(path: Path, url: str) -> bool:
    """Whether a GET of ``url`` at the socket returns 200."""
    return get(path, url)[0] == http.HTTPStatus.OK


def get(path: Path, url: str, body: str = "") -> tuple[int, str]:
    """Status and body of a GET with a JSON body; status 0 if the socket does not answer."""
    connection = _Connection(path)
    try:
        connection.request("GET", url, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def json_of(url: str) -> Any:  # noqa: ANN401 - any JSON
    """Get a JSON document from a URL on this machine. Raises LabFailed."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_DEADLINE_S) as reply:  # noqa: S310 - http
            return json.load(reply)
    except (OSError, ValueError) as error:
        raise LabFailed(f"GET {url}: {error}") from None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
