"""VERSION is answered by the executable itself, with or without an agent or an input."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cni.fake_agent import WAIT_S
from tests.cni.plugin import Spiderpool

SUPPORTED = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def version_of(result: subprocess.CompletedProcess[bytes]) -> str:
    """Return the result's cniVersion after checking everything else about it."""
    assert (result.returncode, result.stderr) == (0, b"")
    document = json.loads(result.stdout)
    assert list(document) == ["cniVersion", "supportedVersions"]
    assert document["supportedVersions"] == SUPPORTED
    assert isinstance(document["cniVersion"], str)
    return document["cniVersion"]


@pytest.mark.parametrize("asked", [*SUPPORTED, "0.2.0", "2.0.0"])
def test_the_version_of_the_question_is_the_version_of_the_answer(
    spiderpool: Spiderpool, asked: str
) -> None:
    question = json.dumps({"cniVersion": asked}).encode()

    assert version_of(spiderpool.call("VERSION", question)) == asked


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"{}",
        b"\xff\0",
        b'{"cniVersion": 1}',
        b'{"cniVersion": ""}',
        b'{"cniVersion": "1.0.0',
        b'{"cniVersion": "1.0\\u002e0"}',
        b'{"cniVersion": "1..0"}',
        b'{"cniVersion": "\xc2\xb2"}',
        b'{"cniVersion": "11111111111111111"}',
        b'{"cniVersion": "1.0.0\\"}',
    ],
)
def test_a_question_without_a_plain_version_is_answered_in_the_newest(
    spiderpool: Spiderpool, question: bytes
) -> None:
    assert version_of(spiderpool.call("VERSION", question)) == "1.1.0"


def test_a_closed_standard_input_does_not_matter(spiderpool: Spiderpool) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"exec {spiderpool.path} <&-"],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        check=False,
        timeout=WAIT_S,
    )

    assert version_of(result) == "1.1.0"


def test_a_standard_input_on_which_nothing_comes_does_not_matter(spiderpool: Spiderpool) -> None:
    reading, writing = os.pipe()
    result = spiderpool.call("VERSION", stdin=reading)
    os.close(reading)
    os.close(writing)

    assert version_of(result) == "1.1.0"
