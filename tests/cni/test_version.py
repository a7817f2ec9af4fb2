"""The executable answers VERSION without an agent and without standard input."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cni.fake_agent import WAIT_S
from tests.cni.plugin import Spiderpool

SUPPORTED = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
NEWEST = "1.1.0"


def checked_version(result: subprocess.CompletedProcess[bytes]) -> str:
    assert (result.returncode, result.stderr) == (0, b"")
    document = json.loads(result.stdout)
    assert list(document) == ["cniVersion", "supportedVersions"]
    assert document["supportedVersions"] == SUPPORTED
    assert isinstance(document["cniVersion"], str)
    return document["cniVersion"]


@pytest.mark.parametrize("version", [*SUPPORTED, "0.2.0", "2.0.0"])
def test_the_result_has_the_cni_version_of_the_request(
    spiderpool: Spiderpool, version: str
) -> None:
    request = json.dumps({"cniVersion": version}).encode()

    assert checked_version(spiderpool.call("VERSION", request)) == version


@pytest.mark.parametrize(
    "request_text",
    [
        b"",
        b"{}",
        b"\xff\0",
        b'{"cniVersion": 1}',
        b'{"cniVersion": ""}',
        b'{"cniVersion": "1.0.0',
        b'{"cniVersion": "1.0\\u002e0"}',  # an escape: the program does not parse the JSON
        b'{"cniVersion": "1..0"}',
        b'{"cniVersion": "\xc2\xb2"}',
        b'{"cniVersion": "11111111111111111"}',
        b'{"cniVersion": "1.0.0\\"}',
    ],
)
def test_the_result_has_the_newest_version_if_the_request_has_no_valid_version(
    spiderpool: Spiderpool, request_text: bytes
) -> None:
    assert checked_version(spiderpool.call("VERSION", request_text)) == NEWEST


def test_version_succeeds_without_a_standard_input(spiderpool: Spiderpool) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"exec {spiderpool.path} <&-"],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        check=False,
        timeout=WAIT_S,
    )

    assert checked_version(result) == NEWEST


def test_version_succeeds_although_standard_input_stays_empty_and_open(
    spiderpool: Spiderpool,
) -> None:
    reading, writing = os.pipe()
    result = spiderpool.call("VERSION", stdin=reading)
    os.close(reading)
    os.close(writing)

    assert checked_version(result) == NEWEST
