"""Calls an agent at the framed socket or the HTTP socket, with a new connection for each call.

This module uses no code of the CNI executables or the agent.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

CALL_S_MAX: Final = 110.0
INTERFACE: Final = "eth0"
NETWORK: Final = "lan"
NAMESPACE: Final = "shop"
HEAD_BYTES: Final = 5
"""The head of a framed answer: a status byte (0: success) and the length of the body."""

NO_ANSWER: Final = -1
"""Reply code after a broken connection or a timeout."""


class Sandbox(NamedTuple):
    """A Pod's sandbox. ``netns``: the path of its network namespace."""

    pod: str
    uid: str
    container: str
    netns: str


class Reply(NamedTuple):
    """An answer. ``code``: 0 for success, ``NO_ANSWER``, a CNI error code or an HTTP status."""

    code: int
    addresses: tuple[str, ...] = ()
    message: str = ""


class Caller:
    """Calls the sockets of one agent."""

    def __init__(self, socket_path: Path) -> None:
        self._http = str(socket_path)
        self._framed = f"{socket_path}.fast"

    async def call(self, verb: str, sandbox: Sandbox, pools: Sequence[str]) -> Reply:
        """Call ADD, DEL or CHECK at the framed socket."""
        ipam: dict[str, Any] = {"type": "spiderpool", "default_ipv4_ippool": list(pools)}
        return await self._call_framed(verb, sandbox, ipam, {})

    async def call_gc(self, valid: Sequence[Sandbox]) -> Reply:
        """Call GC at the framed socket. ``valid``: the sandboxes that exist."""
        attachments = [{"containerID": sandbox.container, "ifname": INTERFACE} for sandbox in valid]
        no_sandbox = Sandbox("none", "", "", "")
        fields = {"cni.dev/valid-attachments": attachments}
        return await self._call_framed("GC", no_sandbox, {"type": "spiderpool"}, fields)

    async def call_http(self, verb: str, sandbox: Sandbox, pools: Sequence[str]) -> Reply:
        """Call ADD or DEL at the HTTP socket (Spiderpool's API)."""
        body: dict[str, Any] = {
            "containerID": sandbox.container,
            "ifName": INTERFACE,
            "netNamespace": sandbox.netns,
            "podNamespace": NAMESPACE,
            "podName": sandbox.pod,
            "podUID": sandbox.uid,
        }
        if verb == "ADD":
            body["defaultIPv4IPPool"] = list(pools)
        data = json.dumps(body).encode()
        method = {"ADD": "POST", "DEL": "DELETE"}[verb]
        head = (
            f"{method} /v1/ipam/ip HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        answer = await _exchange(self._http, head.encode() + data)
        return _http_reply(answer)

    async def _call_framed(
        self, verb: str, sandbox: Sandbox, ipam: dict[str, Any], fields: dict[str, Any]
    ) -> Reply:
        """Make one call, with ``fields`` in the network configuration.

        A frame has the magic OWC1, the length of the body, and the body.
        """
        conf = {"cniVersion": "1.1.0", "name": NETWORK, "type": "macvlan", "ipam": ipam, **fields}
        variables = {"CNI_COMMAND": verb, "CNI_PATH": "/opt/cni/bin"}
        if verb != "GC":
            variables |= {
                "CNI_CONTAINERID": sandbox.container,
                "CNI_NETNS": sandbox.netns,
                "CNI_IFNAME": INTERFACE,
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE}"
                f";K8S_POD_NAME={sandbox.pod};K8S_POD_INFRA_CONTAINER_ID={sandbox.container}"
                f";K8S_POD_UID={sandbox.uid}",
            }
        block = b"".join(f"{name}={value}\0".encode() for name, value in variables.items())
        body = block + b"\0" + json.dumps(conf).encode()
        answer = await _exchange(self._framed, b"OWC1" + struct.pack(">I", len(body)) + body)
        return _framed_reply(answer)


async def _exchange(path: str, request: bytes) -> bytes:
    """Return the answer; b"" after a broken connection or a timeout."""
    try:
        async with asyncio.timeout(CALL_S_MAX):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(request)
                await writer.drain()
                return await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


def _framed_reply(answer: bytes) -> Reply:
    body = answer[HEAD_BYTES:]
    if len(answer) < HEAD_BYTES or len(body) != struct.unpack(">I", answer[1:HEAD_BYTES])[0]:
        return Reply(NO_ANSWER, message="incomplete answer")
    if answer[0] == 0:
        result = json.loads(body) if body else {}
        return Reply(0, tuple(_without_prefix(entry["address"]) for entry in result.get("ips", ())))
    fault = json.loads(body)
    return Reply(int(fault["code"]), message=f"{fault['msg']}: {fault.get('details', '')}")


def _http_reply(answer: bytes) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3:
        return Reply(NO_ANSWER, message="incomplete answer")
    status = int(words[1])
    if status != HTTPStatus.OK:
        return Reply(status, message=body.decode(errors="replace"))
    try:
        result = json.loads(body) if body.strip() else {}
    except ValueError:
        return Reply(NO_ANSWER, message="incomplete answer")
    return Reply(0, tuple(_without_prefix(entry["address"]) for entry in result.get("ips") or ()))


def _without_prefix(address: str) -> str:
    return address.partition("/")[0]
