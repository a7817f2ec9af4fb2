"""An agent that is away, hangs, dies midway or is something else: one error object, one exit."""

from __future__ import annotations

import json
import signal
import socket
import subprocess

import pytest

from tests.cni.fake_agent import (
    WAIT_S,
    answering,
    answering_and_listening,
    frame,
    hanging,
)
from tests.cni.plugin import Spiderpool, error_of

UNHEALTHY = "unhealthy spiderpool-agent backend, failed to check: "
CODES = {"ADD": 11, "DEL": 11, "CHECK": 11, "GC": 11, "STATUS": 50}


def short_deadlines(spiderpool: Spiderpool) -> None:
    """Install a copy that waits for one second where the real one waits for up to a hundred."""
    spiderpool.install(
        ADD_DEADLINE_S="1",
        CHECK_DEADLINE_S="1",
        STATUS_DEADLINE_S="1",
        CONNECT_DEADLINE_S="1",
        STDIN_DEADLINE_S="1",
        STDOUT_DEADLINE_S="1",
    )


@pytest.mark.parametrize(("verb", "code"), CODES.items())
def test_without_an_agent_every_verb_says_that_its_backend_is_unhealthy(
    spiderpool: Spiderpool, verb: str, code: int
) -> None:
    error = error_of(spiderpool.call(verb))

    assert error["code"] == code
    assert error["msg"] == f"{UNHEALTHY}{spiderpool.socket_path}.fast: No such file or directory"
    assert error["cniVersion"] == "1.0.0"


def test_a_socket_left_behind_by_a_dead_agent_is_an_unhealthy_backend(
    spiderpool: Spiderpool,
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{spiderpool.socket_path}.fast")

    error = error_of(spiderpool.call())

    assert error["code"] == 11
    assert error["msg"].startswith(UNHEALTHY)
    assert error["msg"].endswith("Connection refused")


def test_an_agent_whose_queue_of_connections_is_full_is_not_waited_for_without_end(
    spiderpool: Spiderpool,
) -> None:
    short_deadlines(spiderpool)
    address = f"{spiderpool.socket_path}.fast"
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(address)
        stuck.listen(0)
        waiting = [socket.socket(socket.AF_UNIX)]
        waiting[0].connect(address)

        error = error_of(spiderpool.call())

        waiting[0].close()
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
def test_a_hung_agent_ends_the_call_at_its_deadline(
    spiderpool: Spiderpool, verb: str, code: int, prefix: str
) -> None:
    short_deadlines(spiderpool)

    with spiderpool.agent(hanging):
        error = error_of(spiderpool.call(verb))

    assert error["code"] == code
    assert error["msg"] == f"{prefix}timed out after 1 s"


@pytest.mark.parametrize("length", [0, 1, 4, 5, 20])
def test_an_answer_that_ends_early_is_no_answer(spiderpool: Spiderpool, length: int) -> None:
    whole = frame(0, b'{"cniVersion": "1.0.0", "ips": []}')

    with spiderpool.agent(answering(whole[:length])):
        error = error_of(spiderpool.call())

    assert error["code"] == 11
    assert error["msg"].startswith("spiderpool IP allocation error: the agent closed")


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(0, b"")[:1] + b"\xff" * 4, b"\0\0\x40\0\1"],
)
def test_an_answer_that_no_agent_would_give_is_refused_by_its_length(
    spiderpool: Spiderpool, answer: bytes
) -> None:
    with spiderpool.agent(answering(answer)):
        error = error_of(spiderpool.call())

    assert error["code"] == 100
    assert error["msg"].startswith(f"{UNHEALTHY}not an answer of the agent")


def test_a_call_that_is_told_to_stop_says_nothing_and_hangs_up(spiderpool: Spiderpool) -> None:
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
        process.stdin = None
        assert agent.arrived.wait(WAIT_S)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=WAIT_S)
        assert agent.caller_gone.wait(WAIT_S)

    assert process.returncode == -signal.SIGTERM
    assert (stdout, stderr, agent.rest) == (b"", b"", b"")


def test_a_result_nobody_reads_is_a_failed_call_and_no_death_by_signal(
    spiderpool: Spiderpool,
) -> None:
    command = f"{spiderpool.path} | true; exit ${{PIPESTATUS[0]}}"
    with spiderpool.agent(answering(frame(0, b"x" * (1 << 20)))):
        result = subprocess.run(
            ["/bin/bash", "-c", command],
            env=spiderpool.environment("ADD"),
            input=spiderpool.netconf(),
            capture_output=True,
            check=False,
            timeout=WAIT_S,
        )

    assert (result.returncode, result.stderr) == (1, b"")


def test_a_result_that_a_stuck_runtime_does_not_take_ends_the_call(spiderpool: Spiderpool) -> None:
    short_deadlines(spiderpool)
    with spiderpool.agent(answering(frame(0, b"x" * (1 << 20)))):
        process = subprocess.Popen(
            [spiderpool.path],
            env=spiderpool.environment("ADD"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(spiderpool.netconf())
        process.stdin.close()
        process.stdin = None
        status = process.wait(WAIT_S)
        process.communicate()

    assert status == 1


def test_with_standard_output_closed_nothing_but_the_request_reaches_the_agent(
    spiderpool: Spiderpool,
) -> None:
    with spiderpool.agent(answering_and_listening(frame(0, b"result"))) as agent:
        result = subprocess.run(
            ["/bin/sh", "-c", f"exec {spiderpool.path} >&-"],
            env=spiderpool.environment("ADD"),
            input=spiderpool.netconf(),
            stderr=subprocess.PIPE,
            check=False,
            timeout=WAIT_S,
        )
        assert agent.caller_gone.wait(WAIT_S)

    assert (result.returncode, result.stderr, agent.rest) == (1, b"", b"")


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ('"0.3.1"', "0.3.1"),
        ('"9.9.9"', "9.9.9"),
        ('"one"', "1.1.0"),
        ("7", "1.1.0"),
        ("null", "1.1.0"),
    ],
)
def test_an_error_speaks_the_version_of_its_netconf(
    spiderpool: Spiderpool, given: str, printed: str
) -> None:
    ipam = json.loads(spiderpool.netconf())["ipam"]
    netconf = f'{{"cniVersion":{given},"ipam":{json.dumps(ipam)}}}'.encode()

    assert error_of(spiderpool.call(netconf=netconf))["cniVersion"] == printed
