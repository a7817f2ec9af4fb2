"""Paths of Spiderpool's controller API that Orbweaver does not implement.

Source: docs/reference/http-api.md, "Controller".
"""

from __future__ import annotations

from typing import cast

import pytest

from ops.controller.health import ControllerHealth, health_port
from tests.support.http_caller import over_tcp


@pytest.mark.parametrize(
    ("method", "path", "command"),
    [
        ("PUT", "/v1/ipam/ip", "spiderpoolctl ip set"),
        ("POST", "/v1/ipam/gc_ips", "orbctl gc"),
        ("GET", "/v1/ipam/status", "orbctl status"),
    ],
)
async def test_an_unimplemented_path_answers_501_and_names_the_command(
    method: str, path: str, command: str
) -> None:
    port = health_port(cast("ControllerHealth", None))  # these paths do not read the health
    await port.open("127.0.0.1", 0, "SPIDERPOOL_HEALTH_PORT")
    try:
        reply = await over_tcp(port.port, path, method)

        assert reply.status == 501
        assert reply.json == f"{method} {path} is not implemented: use `{command}`"
        assert (await over_tcp(port.port, "/v1/ipam/other", method)).status == 404
    finally:
        await port.close()
