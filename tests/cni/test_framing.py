"""What travels between the executable and the agent, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cni.fake_agent import (
    answering,
    answering_in_pieces,
    answering_unread,
    frame,
    reading_slowly,
)
from tests.cni.plugin import Spiderpool, text

RESULT = b'{\n    "cniVersion": "1.0.0",\n    "ips": []\n}\n'
VERBS = ("ADD", "DEL", "CHECK", "STATUS", "GC")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_reaches_the_agent_with_its_netconf_as_it_came(
    spiderpool: Spiderpool, verb: str
) -> None:
    netconf = spiderpool.netconf() + b" \n\n"

    with spiderpool.agent(answering(frame(0, RESULT))) as agent:
        result = spiderpool.call(verb, netconf)

    assert (result.returncode, result.stdout, result.stderr) == (0, RESULT, b"")
    (request,) = agent.requests
    assert request.stdin == netconf
    expected = {k.encode(): v.encode() for k, v in spiderpool.environment(verb).items()}
    assert request.environment == expected


def test_the_trace_context_travels_and_no_other_variable_leaves_the_process(
    spiderpool: Spiderpool,
) -> None:
    trace = {
        "TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "TRACESTATE": "vendor=1",
        "BAGGAGE": "tenant=shop",
    }
    others = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "hush", "XCNI_ARGS": "x", "cni_args": "x"}
    environment = spiderpool.environment("ADD")

    with spiderpool.agent(answering(frame(0, RESULT))) as agent:
        spiderpool.call(env=environment | trace | others)

    expected = {k.encode(): v.encode() for k, v in (environment | trace).items()}
    assert agent.requests[0].environment == expected


def test_values_of_the_environment_may_be_empty_or_any_bytes(spiderpool: Spiderpool) -> None:
    odd = {
        b"CNI_COMMAND": b"ADD",
        b"CNI_NETNS": b"",
        b"CNI_ARGS": b"A=B;C=\xff\xfe\n\t=",
        b"CNI_\xff": b"CNI_COMMAND=DEL",
    }

    with spiderpool.agent(answering(frame(0, RESULT))) as agent:
        result = spiderpool.call(env=odd)

    assert result.returncode == 0
    assert agent.requests[0].environment == odd


def test_a_netconf_may_hold_any_bytes_after_the_environment_block(spiderpool: Spiderpool) -> None:
    netconf = spiderpool.netconf() + b"\0\0A=B\0\0\xff"

    with spiderpool.agent(answering(frame(0, RESULT))) as agent:
        spiderpool.call(netconf=netconf)

    assert agent.requests[0].stdin == netconf


@pytest.mark.parametrize("status", [0, 1, 7, 255])
@pytest.mark.parametrize("body", [b"", RESULT, bytes(range(256)), b"x" * (4 << 20)])
def test_exit_status_and_output_are_the_agents(
    spiderpool: Spiderpool, status: int, body: bytes
) -> None:
    with spiderpool.agent(answering(frame(status, body))):
        result = spiderpool.call()

    assert result.returncode == status
    assert result.stdout == body
    assert result.stderr == b""


def test_an_answer_in_single_bytes_is_put_together(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering_in_pieces(frame(0, RESULT))):
        result = spiderpool.call()

    assert (result.returncode, result.stdout) == (0, RESULT)


def test_what_follows_the_announced_end_is_not_output(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(frame(0, RESULT) + b"trailing")):
        result = spiderpool.call()

    assert (result.returncode, result.stdout) == (0, RESULT)


def test_a_large_netconf_reaches_an_agent_that_reads_slowly(spiderpool: Spiderpool) -> None:
    attachments = [{"containerID": f"c{n}", "ifname": "eth0"} for n in range(20_000)]
    document = json.loads(spiderpool.netconf()) | {"cni.dev/valid-attachments": attachments}
    netconf = json.dumps(document).encode()

    with spiderpool.agent(reading_slowly(frame(0, b""))) as agent:
        result = spiderpool.call("GC", netconf)

    assert result.returncode == 0
    assert agent.requests[0].stdin == netconf


def test_an_agent_that_refuses_before_it_has_read_everything_is_heard(
    spiderpool: Spiderpool,
) -> None:
    refusal = b'{"code": 11, "msg": "queue full"}'
    netconf = spiderpool.netconf(padding="x" * 900_000)

    with spiderpool.agent(answering_unread(frame(1, refusal))):
        result = spiderpool.call(netconf=netconf)

    assert (result.returncode, result.stdout) == (1, refusal)


def test_the_default_socket_is_used_where_the_netconf_names_none(
    spiderpool: Spiderpool, short_path: Path
) -> None:
    spiderpool.install(SOCKET_PATH=text(spiderpool.socket_path))

    with spiderpool.agent(answering(frame(0, RESULT))):
        result = spiderpool.call(netconf=b'{"name":"lan","ipam":{"type":"spiderpool"}}')

    assert (result.returncode, result.stdout) == (0, RESULT)
