"""A call prints one error object if the agent does not run, hangs, dies or is another program.

Error codes: 11 try again later, 50 plugin not available (CNI specification), 100 not an answer of
the agent (Orbweaver).
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess

import pytest

from tests.cni.fake_agent import (
    WAIT_S,
    answer_frame,
    answering,
    answering_and_reading,
    hanging,
)
from tests.cni.plugin import Spiderpool, error_of

UNHEALTHY = "unhealthy spiderpool-agent backend, failed to check: "
CODES_WITHOUT_AGENT = {"ADD": 11, "DEL": 11, "CHECK": 11, "GC": 11, "STATUS": 50}
"""Verb -> error code if no agent runs."""

MORE_THAN_A_PIPE_HOLDS = b"x" * (1 << 20)


def install_with_short_deadlines(spiderpool: Spiderpool) -> None:
    spiderpool.install(
        ADD_DEADLINE_S="1",
        CHECK_DEADLINE_S="1",
        STATUS_DEADLINE_S="1",
        CONNECT_DEADLINE_S="1",
        STDIN_DEADLINE_S="1",
        STDOUT_DEADLINE_S="1",
    )


@pytest.mark.parametrize(("verb", "code"), CODES_WITHOUT_AGENT.items())
def test_every_verb_reports_an_unhealthy_backend_if_no_agent_runs(
    spiderpool: Spiderpool, verb: str, code: int
) -> None:
    error = error_of(spiderpool.call(verb))

    assert error["code"] == code
    assert error["msg"] == f"{UNHEALTHY}{spiderpool.socket_path}.fast: No such file or directory"
    assert error["cniVersion"] == "1.0.0"


def test_a_call_reports_an_unhealthy_backend_if_the_agent_has_died(
    spiderpool: Spiderpool,
) -> None:
    with socket.socket(socket.AF_UNIX) as agent_socket:
        agent_socket.bind(f"{spiderpool.socket_path}.fast")

    error = error_of(spiderpool.call())

    assert error["code"] == 11
    assert error["msg"].startswith(UNHEALTHY)
    assert error["msg"].endswith("Connection refused")


def test_connecting_times_out_if_the_agents_connection_queue_is_full(
    spiderpool: Spiderpool,
) -> None:
    install_with_short_deadlines(spiderpool)
    address = f"{spiderpool.socket_path}.fast"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as queued:
        listening.bind(address)
        listening.listen(0)
        queued.connect(address)

        error = error_of(spiderpool.call())

    assert error["code"] == 11
    assert error["msg"] == f"{UNHEALTHY}{address}: timed out after 1 s"


@pytest.mark.parametrize(
    ("verb", "code", "prefix"),
    [
        ("ADD", 11, "spiderpool IP allocation error: "),
        ("DEL", 11, "spiderpool IP release error: "),
        ("CHECK", 11, UNHEALTHY),
        ("GC", 11, UNHEALTHY),
        ("STATUS", 50, UNHEALTHY),
    ],
)
def test_a_call_to_a_hung_agent_fails_at_the_deadline(
    spiderpool: Spiderpool, verb: str, code: int, prefix: str
) -> None:
    install_with_short_deadlines(spiderpool)

    with spiderpool.agent(hanging):
        error = error_of(spiderpool.call(verb))

    assert error["code"] == code
    assert error["msg"] == f"{prefix}timed out after 1 s"


@pytest.mark.parametrize("length", [0, 1, 4, 5, 20])
def test_an_answer_that_ends_early_fails_the_call(spiderpool: Spiderpool, length: int) -> None:
    answer = answer_frame(0, b'{"cniVersion": "1.0.0", "ips": []}')

    with spiderpool.agent(answering(answer[:length])):
        error = error_of(spiderpool.call())

    assert error["code"] == 11
    assert error["msg"].startswith("spiderpool IP allocation error: the agent closed")


@pytest.mark.parametrize(
    "answer",
    # Byte 0 is the exit status, and bytes 1 to 4 are the length; the limit is 4 MiB.
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", answer_frame(0, b"")[:1] + b"\xff" * 4, b"\0\0\x40\0\1"],
)
def test_an_answer_longer_than_4_mib_is_refused(spiderpool: Spiderpool, answer: bytes) -> None:
    with spiderpool.agent(answering(answer)):
        error = error_of(spiderpool.call())

    assert error["code"] == 100
    assert error["msg"].startswith(f"{UNHEALTHY}not an answer of the agent")


def test_sigterm_ends_a_call_without_output_and_closes_its_connection(
    spiderpool: Spiderpool,
) -> None:
    with spiderpool.agent(hanging) as agent:
        process = subprocess.Popen(
            [spiderpool.path],
            env=spiderpool.environment("ADD"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(spiderpool.netconf())
        process.stdin.close()
        process.stdin = None  # communicate() would flush the closed pipe
        assert agent.request_arrived.wait(WAIT_S)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=WAIT_S)
        assert agent.last_bytes_received.wait(WAIT_S)

    assert process.returncode == -signal.SIGTERM
    assert (stdout, stderr) == (b"", b"")
    assert agent.last_bytes == b"", "the call must send nothing after the request"


def test_a_call_exits_with_1_if_its_output_pipe_is_closed(
    spiderpool: Spiderpool,
) -> None:
    command = f"{spiderpool.path} | true; exit ${{PIPESTATUS[0]}}"
    with spiderpool.agent(answering(answer_frame(0, MORE_THAN_A_PIPE_HOLDS))):
        result = subprocess.run(
            ["/bin/bash", "-c", command],
            env=spiderpool.environment("ADD"),
            input=spiderpool.netconf(),
            capture_output=True,
            check=False,
            timeout=WAIT_S,
        )

    assert (result.returncode, result.stderr) == (1, b"")


def test_a_call_fails_if_the_runtime_does_not_read_the_result(spiderpool: Spiderpool) -> None:
    install_with_short_deadlines(spiderpool)
    with spiderpool.agent(answering(answer_frame(0, MORE_THAN_A_PIPE_HOLDS))):
        process = subprocess.Popen(
            [spiderpool.path],
            env=spiderpool.environment("ADD"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(spiderpool.netconf())
        process.stdin.close()
        process.stdin = None  # communicate() would flush the closed pipe
        status = process.wait(WAIT_S)
        process.communicate()

    assert status == 1


def test_a_call_without_standard_output_sends_only_its_request(
    spiderpool: Spiderpool,
) -> None:
    with spiderpool.agent(answering_and_reading(answer_frame(0, b"result"))) as agent:
        result = subprocess.run(
            ["/bin/sh", "-c", f"exec {spiderpool.path} >&-"],
            env=spiderpool.environment("ADD"),
            input=spiderpool.netconf(),
            stderr=subprocess.PIPE,
            check=False,
            timeout=WAIT_S,
        )
        assert agent.last_bytes_received.wait(WAIT_S)

    assert (result.returncode, result.stderr, agent.last_bytes) == (1, b"", b"")


@pytest.mark.parametrize(
    ("requested", "printed"),
    [
        ('"0.3.1"', "0.3.1"),
        ('"9.9.9"', "9.9.9"),
        ('"one"', "1.1.0"),
        ("7", "1.1.0"),
        ("null", "1.1.0"),
    ],
)
def test_an_error_object_has_the_cni_version_of_the_netconf_or_the_newest(
    spiderpool: Spiderpool, requested: str, printed: str
) -> None:
    ipam = json.loads(spiderpool.netconf())["ipam"]
    netconf = f'{{"cniVersion":{requested},"ipam":{json.dumps(ipam)}}}'.encode()

    assert error_of(spiderpool.call(netconf=netconf))["cniVersion"] == printed
