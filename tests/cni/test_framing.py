"""Requests and answers between the executable and the agent, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cni.fake_agent import (
    answer_frame,
    answering,
    answering_early,
    answering_in_pieces,
    reading_slowly,
)
from tests.cni.plugin import Spiderpool, c_string

RESULT = b'{\n    "cniVersion": "1.0.0",\n    "ips": []\n}\n'
VERBS = ("ADD", "DEL", "CHECK", "STATUS", "GC")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_sends_its_netconf_to_the_agent_unchanged(
    spiderpool: Spiderpool, verb: str
) -> None:
    netconf = spiderpool.netconf() + b" \n\n"

    with spiderpool.agent(answering(answer_frame(0, RESULT))) as agent:
        result = spiderpool.call(verb, netconf)

    assert (result.returncode, result.stdout, result.stderr) == (0, RESULT, b"")
    (request,) = agent.requests
    assert request.stdin == netconf
    expected = {
        name.encode(): value.encode() for name, value in spiderpool.environment(verb).items()
    }
    assert request.environment == expected


def test_a_request_has_only_cni_variables_and_the_trace_context(
    spiderpool: Spiderpool,
) -> None:
    trace = {
        "TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "TRACESTATE": "vendor=1",
        "BAGGAGE": "tenant=shop",
    }
    other_variables = {
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "XCNI_ARGS": "x",
        "cni_args": "x",
    }
    environment = spiderpool.environment("ADD")

    with spiderpool.agent(answering(answer_frame(0, RESULT))) as agent:
        spiderpool.call(env=environment | trace | other_variables)

    expected = {name.encode(): value.encode() for name, value in (environment | trace).items()}
    assert agent.requests[0].environment == expected


def test_environment_variables_may_be_empty_or_contain_any_bytes(spiderpool: Spiderpool) -> None:
    environment = {
        b"CNI_COMMAND": b"ADD",
        b"CNI_NETNS": b"",
        b"CNI_ARGS": b"A=B;C=\xff\xfe\n\t=",
        b"CNI_\xff": b"CNI_COMMAND=DEL",
    }

    with spiderpool.agent(answering(answer_frame(0, RESULT))) as agent:
        result = spiderpool.call(env=environment)

    assert result.returncode == 0
    assert agent.requests[0].environment == environment


def test_a_netconf_may_contain_any_bytes(spiderpool: Spiderpool) -> None:
    netconf = spiderpool.netconf() + b"\0\0A=B\0\0\xff"

    with spiderpool.agent(answering(answer_frame(0, RESULT))) as agent:
        spiderpool.call(netconf=netconf)

    assert agent.requests[0].stdin == netconf


@pytest.mark.parametrize("status", [0, 1, 7, 255])
@pytest.mark.parametrize("body", [b"", RESULT, bytes(range(256)), b"x" * (4 << 20)])
def test_a_call_has_the_exit_status_and_output_of_the_answer(
    spiderpool: Spiderpool, status: int, body: bytes
) -> None:
    with spiderpool.agent(answering(answer_frame(status, body))):
        result = spiderpool.call()

    assert result.returncode == status
    assert result.stdout == body
    assert result.stderr == b""


def test_an_answer_that_arrives_byte_by_byte_is_printed_completely(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering_in_pieces(answer_frame(0, RESULT))):
        result = spiderpool.call()

    assert (result.returncode, result.stdout) == (0, RESULT)


def test_bytes_after_the_announced_length_are_not_printed(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(answer_frame(0, RESULT) + b"trailing")):
        result = spiderpool.call()

    assert (result.returncode, result.stdout) == (0, RESULT)


def test_a_large_netconf_reaches_an_agent_that_reads_slowly(spiderpool: Spiderpool) -> None:
    attachments = [{"containerID": f"c{number}", "ifname": "eth0"} for number in range(20_000)]
    document = json.loads(spiderpool.netconf()) | {"cni.dev/valid-attachments": attachments}
    netconf = json.dumps(document).encode()

    with spiderpool.agent(reading_slowly(answer_frame(0, b""))) as agent:
        result = spiderpool.call("GC", netconf)

    assert result.returncode == 0
    assert agent.requests[0].stdin == netconf


def test_an_early_error_of_the_agent_is_printed(
    spiderpool: Spiderpool,
) -> None:
    refusal = b'{"code": 11, "msg": "queue full"}'
    netconf = spiderpool.netconf(padding="x" * 900_000)

    with spiderpool.agent(answering_early(answer_frame(1, refusal))):
        result = spiderpool.call(netconf=netconf)

    assert (result.returncode, result.stdout) == (1, refusal)


def test_the_default_socket_is_used_if_the_netconf_names_none(
    spiderpool: Spiderpool, short_path: Path
) -> None:
    spiderpool.install(SOCKET_PATH=c_string(spiderpool.socket_path))

    with spiderpool.agent(answering(answer_frame(0, RESULT))):
        result = spiderpool.call(netconf=b'{"name":"lan","ipam":{"type":"spiderpool"}}')

    assert (result.returncode, result.stdout) == (0, RESULT)
