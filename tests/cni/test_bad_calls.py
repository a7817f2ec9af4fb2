"""A call with an invalid environment, standard input or netconf prints a CNI error.

Error codes: 4 environment, 5 I/O, 6 content cannot be decoded, 7 network configuration.
"""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cni.fake_agent import WAIT_S, answer_frame, answering
from tests.cni.plugin import Spiderpool, c_string, error_of


@pytest.mark.parametrize("environment", [{}, {"CNI_COMMAND": ""}, {"CNI_IFNAME": "eth0"}])
def test_the_error_names_cni_command_if_it_is_missing(
    spiderpool: Spiderpool, environment: dict[str, str]
) -> None:
    error = error_of(spiderpool.call(env=environment))

    assert error["code"] == 4
    assert error["msg"] == "required env variable CNI_COMMAND missing"


@pytest.mark.parametrize("verb", ["add", "DELETE", "ADD ", "\ud800", "A" * 10_000])
def test_the_error_has_the_value_of_an_unknown_cni_command(
    spiderpool: Spiderpool, verb: str
) -> None:
    raw = verb.encode(errors="surrogatepass")

    error = error_of(spiderpool.call(env={b"CNI_COMMAND": raw}))

    assert error["code"] == 4
    assert error["msg"] == f"unknown CNI_COMMAND: {raw.decode(errors='replace')}"
    assert "ADD, DEL, CHECK, GC, STATUS, VERSION" in error["details"]


def call_on_a_terminal(
    path: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    controller, terminal = pty.openpty()
    try:
        return subprocess.run(
            [path],
            env=environment,
            stdin=terminal,
            capture_output=True,
            check=False,
            timeout=WAIT_S,
        )
    finally:
        os.close(controller)
        os.close(terminal)


def test_the_executable_prints_its_usage_on_a_terminal(spiderpool: Spiderpool) -> None:
    result = call_on_a_terminal(spiderpool.path, {"PATH": "/bin"})

    assert (result.returncode, result.stdout) == (0, b"")
    assert b"CNI plugin" in result.stderr
    assert b"0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in result.stderr


def test_an_incomplete_environment_is_an_error_even_on_a_terminal(spiderpool: Spiderpool) -> None:
    error = error_of(call_on_a_terminal(spiderpool.path, {"CNI_IFNAME": "eth0"}))

    assert error["code"] == 4


def test_a_netconf_larger_than_1_mib_is_refused(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(answer_frame(0, b""))) as agent:
        error = error_of(spiderpool.call(netconf=spiderpool.netconf(padding="x" * (1 << 20))))

    assert error["code"] == 7
    assert "too large" in error["msg"]
    assert agent.requests == []


def test_a_netconf_is_refused_if_it_is_too_large_together_with_the_environment(
    spiderpool: Spiderpool,
) -> None:
    environment = spiderpool.environment("ADD") | {"CNI_ARGS": "x" * 100_000}
    netconf = spiderpool.netconf(padding="x" * 1_000_000)

    with spiderpool.agent(answering(answer_frame(0, b""))) as agent:
        error = error_of(spiderpool.call(netconf=netconf, env=environment))

    assert error["code"] == 7
    assert "environment and network configuration are too large" in error["msg"]
    assert agent.requests == []


def test_a_request_of_the_maximum_size_is_sent(spiderpool: Spiderpool) -> None:
    variables = spiderpool.environment("ADD").items()
    environment_bytes = sum(len(f"{name}={value}\0") for name, value in variables) + 1
    # Spaces fill up the request body to the limit of 1 MiB.
    netconf = spiderpool.netconf().ljust((1 << 20) - environment_bytes)

    with spiderpool.agent(answering(answer_frame(0, b""))) as agent:
        result = spiderpool.call(netconf=netconf)

    assert result.returncode == 0
    assert agent.requests[0].stdin == netconf


def test_a_closed_standard_input_is_an_io_failure(spiderpool: Spiderpool) -> None:
    result = subprocess.run(
        ["/bin/sh", "-c", f"exec {spiderpool.path} <&-"],
        env=spiderpool.environment("ADD"),
        capture_output=True,
        check=False,
        timeout=WAIT_S,
    )

    error = error_of(result)
    assert error["code"] == 5
    assert error["msg"].endswith("from stdin: Bad file descriptor")


def test_an_unreadable_standard_input_is_an_io_failure(spiderpool: Spiderpool) -> None:
    write_only = os.open(os.devnull, os.O_WRONLY)
    error = error_of(spiderpool.call(stdin=write_only))
    os.close(write_only)

    assert error["code"] == 5
    assert error["msg"].endswith("from stdin: Bad file descriptor")


def test_a_call_times_out_if_standard_input_does_not_end(
    spiderpool: Spiderpool,
) -> None:
    spiderpool.install(STDIN_DEADLINE_S="1")
    reading, writing = os.pipe()
    os.write(writing, spiderpool.netconf())
    error = error_of(spiderpool.call(stdin=reading))
    os.close(reading)
    os.close(writing)

    assert error["code"] == 5
    assert error["msg"].endswith("from stdin: timed out after 1 s")


@pytest.mark.parametrize("netconf", [b"", b"{", b"\xff\xfe\0", b"[1,2]", b'"ipam"', b"{}" * 1000])
def test_an_invalid_netconf_is_sent_to_the_agent_unchanged(
    spiderpool: Spiderpool, netconf: bytes
) -> None:
    spiderpool.install(SOCKET_PATH=c_string(spiderpool.socket_path))

    with spiderpool.agent(answering(answer_frame(1, b'{"code": 6}'))) as agent:
        result = spiderpool.call(netconf=netconf)

    assert (result.returncode, result.stdout) == (1, b'{"code": 6}')
    assert agent.requests[0].stdin == netconf


@pytest.mark.parametrize(
    ("netconf", "code", "words"),
    [
        (b'{"ipam": {"ipam_unix_socket_path": "\\', 6, "not JSON"),
        (b'{"ipam": {"ipam_unix_socket_path": 7}}', 7, "ipam.ipam_unix_socket_path"),
        (b'{"ipam": {"ipam_unix_socket_path": "agent.sock"}}', 7, "ipam.ipam_unix_socket_path"),
    ],
)
def test_a_netconf_with_an_unusable_socket_path_is_refused(
    spiderpool: Spiderpool, netconf: bytes, code: int, words: str
) -> None:
    error = error_of(spiderpool.call(netconf=netconf))

    assert error["code"] == code
    assert words in error["msg"]
