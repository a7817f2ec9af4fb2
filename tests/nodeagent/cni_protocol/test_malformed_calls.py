"""Malformed calls return an error object that names the fault, and write nothing.

CNI error codes: 1 incompatible version, 4 invalid environment variables, 6 content cannot be
decoded, 7 invalid network configuration, 11 try again later. Orbweaver defines the codes from 100.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import (
    AddressesUsedOut,
    DatapathError,
    FirewallBusy,
    LogGap,
    NetlinkLost,
    NetlinkRefused,
    OrbweaverError,
    OutcomeUnknown,
    RetriesExhausted,
    WriterFenced,
)
from nodeagent.cni_protocol.cni_call import read_pod_reference
from nodeagent.cni_protocol.failures import _CODES, CniFailure, failure_of
from nodeagent.cni_protocol.netconf import read_netconf
from tests.support.agent_harness import AgentHarness, request_frame

T = TypeVar("T")


async def error_of(agent: AgentHarness, request: bytes) -> dict[str, Any]:
    """Send a request and return the error object; check that no address is claimed."""
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    reply = await agent.raw(request)
    assert await agent.claims() == {}
    error: dict[str, Any] = reply.error
    return error


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CNI_COMMAND": ""}, "required env variable CNI_COMMAND missing"),
        ({"CNI_COMMAND": "add"}, "unknown CNI_COMMAND: add"),
        ({"CNI_CONTAINERID": ""}, "required env variables [CNI_CONTAINERID] missing"),
        (
            {"CNI_NETNS": "", "CNI_IFNAME": ""},
            "required env variables [CNI_NETNS,CNI_IFNAME] missing",
        ),
        ({"CNI_CONTAINERID": "a/b"}, "CNI_CONTAINERID: invalid characters in 'a/b'"),
        ({"CNI_CONTAINERID": "-a"}, "CNI_CONTAINERID: invalid characters"),
        ({"CNI_CONTAINERID": "a" * 254}, "CNI_CONTAINERID: invalid characters"),
        ({"CNI_IFNAME": "a" * 16}, "CNI_IFNAME 'aaaaaaaaaaaaaaaa': more than 15 characters"),
        ({"CNI_IFNAME": "a/b"}, "CNI_IFNAME 'a/b'"),
        ({"CNI_IFNAME": "a:b"}, "CNI_IFNAME 'a:b'"),
        ({"CNI_IFNAME": "a b"}, "CNI_IFNAME 'a b'"),
        ({"CNI_IFNAME": "a\x07b"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": ".."}, "CNI_IFNAME '..': not a name"),
        ({"CNI_NETNS": "/" * 5000}, "CNI_NETNS: 5000 characters"),
        ({"CNI_ARGS": "K8S_POD_NAME"}, "CNI_ARGS: invalid pair 'K8S_POD_NAME'"),
        ({"CNI_ARGS": "K8S_POD_NAME=a=b"}, "CNI_ARGS: invalid pair"),
        ({"CNI_ARGS": ";"}, "CNI_ARGS: invalid pair ''"),
        ({"CNI_ARGS": "K8S_POD_NAME=../../pool/lan"}, "K8S_POD_NAME '../../pool/lan' is not"),
        ({"CNI_ARGS": "K8S_POD_NAMESPACE=a/b"}, "K8S_POD_NAMESPACE 'a/b' is not a name"),
        ({"CNI_ARGS": "K8S_POD_UID=a b"}, "K8S_POD_UID 'a b' is not a name"),
        ({"CNI_ARGS": "FOO=1;BAR=2"}, "unknown args [BAR, FOO]"),
        ({"CNI_ARGS": "FOO=1;IgnoreUnknown=0"}, "unknown args [FOO]"),
        ({"CNI_ARGS": "FOO=1;IgnoreUnknown=maybe"}, "IgnoreUnknown 'maybe' must be"),
        ({"CNI_ARGS": "IP=10.6.0.300"}, "IP: '10.6.0.300'"),
        ({"CNI_ARGS": "K8S_POD_NAME=" + "a" * 5000}, "CNI_ARGS: 5013 characters"),
    ],
)
async def test_an_invalid_environment_is_refused_with_the_name_of_the_variable(
    agent: AgentHarness, changes: dict[str, str], text: str
) -> None:
    environment = agent.environment("ADD") | changes
    request = request_frame(environment, json.dumps(agent.netconf()).encode())

    error = await error_of(agent, request)

    assert error["code"] == 4
    assert text in error["msg"]


@pytest.mark.parametrize(
    "args",
    [
        "FOO=1;IgnoreUnknown=1",
        "IgnoreUnknown=TRUE;FOO=;BAR=x",
        "IgnoreUnknown=0;K8S_POD_NAME=a",
        "IP=10.6.0.4",
        "IP=;K8S_POD_UID=",
        "K8S_POD_INFRA_CONTAINER_ID=c1",
    ],
)
async def test_valid_arguments_are_accepted_or_ignored_as_in_libcni(
    agent: AgentHarness, args: str
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")

    assert await agent.add(CNI_ARGS=args)


@pytest.mark.parametrize(
    ("conf", "code", "text"),
    [
        (b"", 6, "not JSON"),
        (b"{", 6, "not JSON"),
        (b"[]", 6, "not a JSON object"),
        (b"null", 6, "not a JSON object"),
        (b'{"name":"\xff"}', 6, "not JSON"),
        (b"[" * 100_000, 6, "not JSON"),
        ({"cniVersion": 1}, 7, "cniVersion: expected `str`, got `int`"),
        ({"cniVersion": "2.0.0"}, 1, "incompatible CNI versions: cniVersion is '2.0.0'"),
        ({"cniVersion": None}, 1, "cniVersion is '0.1.0'"),
        ({"cniVersion": "0.2.0"}, 1, "incompatible CNI versions"),
        ({"name": ""}, 7, "missing network name"),
        ({"name": "a/b"}, 7, "invalid characters in network name 'a/b'"),
        ({"name": 7}, 7, "name: expected `str`"),
        ({"ipam": []}, 7, "ipam: expected `object`, got `array`"),
        ({"ipam": {"default_ipv4_ippool": "a"}}, 7, "ipam.default_ipv4_ippool: expected `array`"),
        ({"ipam": {"default_ipv6_ippool": [1]}}, 7, "ipam.default_ipv6_ippool[0]: expected"),
        ({"ipam": {"default_ipv4_ippool": ["a"] * 257}}, 7, "ipam.default_ipv4_ippool"),
        ({"ipam": {"clean_gateway": "yes"}}, 7, "ipam.clean_gateway: expected `bool`"),
        ({"ipam": {"log_level": "loud"}}, 7, "ipam.log_level 'loud' is not a level"),
        ({"ipam": {"log_file_max_size": "100M"}}, 7, "ipam.log_file_max_size: expected `int`"),
        ({"ipam": {"log_file_max_size": "9" * 10}}, 7, "ipam.log_file_max_size: expected `int`"),
        ({"ipam": {"log_file_max_count": -1}}, 7, "ipam.log_file_max_count"),
        ({"prevResult": 3}, 7, "prevResult: expected `object"),
    ],
)
async def test_an_invalid_netconf_is_refused_with_the_name_of_the_field(
    agent: AgentHarness, conf: bytes | dict[str, Any], code: int, text: str
) -> None:
    stdin = conf if isinstance(conf, bytes) else json.dumps(agent.netconf() | conf).encode()

    error = await error_of(agent, request_frame(agent.environment("ADD"), stdin))

    assert error["code"] == code
    assert text in error["msg"]


def test_limits_of_the_log_file_may_be_strings_as_in_spiderpools_documents() -> None:
    ipam = {"log_file_max_size": "100", "log_file_max_age": "30", "log_file_max_count": 7}
    conf = {"cniVersion": "1.0.0", "name": "lan", "ipam": ipam}

    parsed = read_netconf(json.dumps(conf).encode()).ipam

    limits = (parsed.log_file_max_size, parsed.log_file_max_age, parsed.log_file_max_count)
    assert limits == (100, 30, 7)


async def test_a_del_with_an_invalid_netconf_fails_and_the_address_stays(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")
    await agent.add()

    error = (await agent.call("DEL", conf=agent.netconf("0.2.0"))).error

    assert error["code"] == 1
    assert len(await agent.claims()) == 1


@pytest.mark.parametrize("verb", ["CHECK", "STATUS", "GC"])
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1"])
async def test_a_verb_that_the_cni_version_does_not_have_is_refused(
    agent: AgentHarness, verb: str, version: str
) -> None:
    error = (await agent.call(verb, conf=agent.netconf(version))).error

    assert (error["cniVersion"], error["code"]) == (version, 1)
    assert error["msg"] == f"config version {version} does not allow {verb}"


@pytest.mark.parametrize(
    ("annotations", "code", "text"),
    [
        (
            {"ippools": "no JSON"},
            112,
            "invalid format of Pod annotation 'ipam.spidernet.io/ippools'",
        ),
        ({"ippools": []}, 112, "value requires at least one item"),
        ({"ippool": ""}, 112, "wrong input"),
        ({"routes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, 112, "mixes IPv4 and IPv6"),
        ({"ippool": {"ipv4": ["absent"]}}, 113, 'SpiderIPPool "absent" not found'),
        ({"ippool": {"ipv4": ["lan", "lan"]}}, 112, "duplicate IPPool lan specified"),
        ({"ippool": {"ipv4": ["[a"]}}, 113, '"[a" not found'),
        ({"ippool": {}}, 111, "no IPPool available"),
    ],
)
async def test_an_invalid_annotation_is_refused_with_the_reason(
    agent: AgentHarness, annotations: dict[str, Any], code: int, text: str
) -> None:
    await agent.pod("web-0", annotations)
    request = request_frame(agent.environment("ADD"), json.dumps(agent.netconf()).encode())

    error = await error_of(agent, request)

    assert error["code"] == code
    assert error["msg"].startswith("spiderpool IP allocation error: ")
    assert text in error["msg"]


@pytest.mark.parametrize(
    ("request_bytes", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not begin with OWC1"),
        (b"OWC2" + bytes(4), "does not begin with OWC1"),
        (b"\0", "does not begin with OWC1"),
        (b"OWC1" + struct.pack(">I", (1 << 20) + 1), "its length is 1048577 bytes"),
        (b"OWC1" + struct.pack(">I", 3) + b"A=B", "the environment block has no end"),
        (b"OWC1" + struct.pack(">I", 0), "the environment block has no end"),
    ],
)
async def test_bytes_that_are_not_a_request_get_an_error(
    agent: AgentHarness, request_bytes: bytes, text: str
) -> None:
    error = await error_of(agent, request_bytes)

    assert error["code"] == 101
    assert text in error["msg"]


async def test_an_environment_with_invalid_entries_gets_an_error(agent: AgentHarness) -> None:
    block = b"CNI_COMMAND=ADD\0\xff\xfe=\xff\0NOVALUE\0=\0\0"
    request = b"OWC1" + struct.pack(">I", len(block)) + block

    error = await error_of(agent, request)

    assert error["code"] == 4


async def test_an_incomplete_request_changes_nothing_after_the_caller_disconnects(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    request = request_frame(agent.environment("ADD"), json.dumps(agent.netconf()).encode())
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(agent.process.settings.framed_socket_path)
        caller.sendall(request[:-1])

    await agent.add("web-1")

    assert [claim.pod for claim in (await agent.claims()).values()] == ["web-1"]


async def test_a_request_that_arrives_byte_by_byte_is_handled(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.20")
    request = request_frame(agent.environment("ADD"), json.dumps(agent.netconf()).encode())
    reader, writer = await asyncio.open_unix_connection(agent.process.settings.framed_socket_path)
    for byte in request:
        writer.write(bytes([byte]))
        await writer.drain()

    assert (await reader.read())[:1] == b"\0", "expected exit status 0"
    writer.close()
    assert len(await agent.claims()) == 1


def outcome(read: Callable[[], T]) -> tuple[int, T | None]:
    """(0, the result of ``read``), or (the code of the failure, None)."""
    try:
        return 0, read()
    except CniFailure as failure:
        return failure.code, None


@given(st.text(max_size=60))
def test_any_text_of_arguments_is_parsed_or_refused(text: str) -> None:
    code, pod = outcome(lambda: read_pod_reference(text))

    assert code in (0, 4)
    assert pod is None or "/" not in f"{pod.namespace}{pod.name}{pod.uid}"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
member_names = st.sampled_from(
    ["cniVersion", "CNIVERSION", "name", "ipam", "prevResult", "cni.dev/attachments", "type"]
)


@given(st.dictionaries(member_names, json_values, max_size=5))
def test_any_document_as_netconf_is_parsed_or_refused(document: dict[str, Any]) -> None:
    base = {"cniVersion": "1.1.0", "name": "lan"}
    code, conf = outcome(lambda: read_netconf(json.dumps(base | document).encode()))

    assert code in (0, 1, 7)
    assert conf is None or conf.name


@given(st.binary(max_size=60))
def test_any_bytes_as_netconf_are_parsed_or_refused(data: bytes) -> None:
    code, _ = outcome(lambda: read_netconf(data))

    assert code in (0, 1, 6, 7)


def test_no_error_class_precedes_its_subclass_in_the_table_of_codes() -> None:
    for number, (kind, code) in enumerate(_CODES):
        hidden_subclasses = [
            later.__name__ for later, _ in _CODES[number + 1 :] if issubclass(later, kind)
        ]
        assert not hidden_subclasses, f"{kind.__name__} ({code}) hides {hidden_subclasses}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DatapathError("the kernel refuses"), 122),
        (NetlinkRefused("the kernel refuses", errno=1), 122),
        (NetlinkLost("answers were lost"), 11),
        (FirewallBusy("iptables did not get its lock"), 11),
        (OutcomeUnknown("the answer was lost"), 11),
        (LogGap("a segment is missing"), 11),
        (WriterFenced("another process"), 131),
        (AddressesUsedOut("all IP addresses used out"), 110),
        (RetriesExhausted("exhaust all retries"), 11),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_code(error: OrbweaverError, code: int) -> None:
    assert failure_of(error).code == code
