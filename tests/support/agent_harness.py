"""Runs an agent, and acts as its operator and its container runtime.

Calls are encoded as docs/reference/cni-executables.md specifies, without code of the product.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from core.configuration.configurator import Configurator
from core.domain.addresses.ip_address import Family
from core.domain.configuration.commands import ApplyPool, ApplyRecord, Command
from core.domain.events import Cause, RecordDefined
from core.domain.model import Claim, Endpoint, Pool
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import Writer
from nodeagent.agent import Agent
from nodeagent.composition import AgentSources
from nodeagent.settings.agent_settings import Settings

ANSWER_DEADLINE_S = 60.0


class Reply(NamedTuple):
    """The exit code and the output that a CNI executable would return."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        assert self.status == 0, self.body.decode()
        return self.json

    @property
    def error(self) -> Any:
        assert self.status == 1, self.body.decode()
        document = self.json
        assert list(document) == ["cniVersion", "code", "msg", "details"]
        return document


async def exchange(path: str, request: bytes) -> Reply:
    async with asyncio.timeout(ANSWER_DEADLINE_S):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(request)
            await writer.drain()
            status, length = struct.unpack(">BI", await reader.readexactly(5))
            body = await reader.readexactly(length)
            assert await reader.read() == b"", "the agent must close the connection after the frame"
            return Reply(status, body)
        finally:
            writer.close()


def request_frame(environment: dict[str, str], stdin: bytes) -> bytes:
    variables = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    body = variables + b"\0" + stdin
    return b"OWC1" + struct.pack(">I", len(body)) + body


@asynccontextmanager
async def running(
    settings: Settings, store: KeyValueStore, **options: Any
) -> AsyncIterator[AgentHarness]:
    """Run an agent. ``options``: fields of ``AgentSources``, or further arguments of ``Agent``."""
    source_options = {name: options.pop(name) for name in AgentSources._fields if name in options}
    sources = AgentSources(**source_options)
    agent = Agent(settings, store, sources=sources, **options)
    try:
        await agent.start()
        yield AgentHarness(agent)
    finally:
        await agent.stop()


class ManualClock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class AgentHarness:
    """Acts as the operator and the container runtime of a running agent."""

    def __init__(self, agent: Agent) -> None:
        self.process = agent
        self.store = agent.parts.store
        self.keys = agent.parts.keys

    # The operator

    async def apply(self, *commands: Command) -> None:
        """Apply commands, and wait until the agent's configuration view has the new revision."""
        writer = Writer(self.store, self.keys, f"operator-{id(commands):x}")
        await writer.open()
        configurator = Configurator(self.store, self.keys, writer)
        revision = 0
        for command in commands:
            revision = (await configurator.apply(command, Cause("test"))).revision
        await writer.close()
        await self.process.parts.view.wait_for(
            lambda: self.process.parts.view.current.revision >= revision
        )

    async def pool(self, name: str, subnet: str, *ips: str, **fields: Any) -> None:
        """Apply a pool. It is a default pool, unless ``default`` is False."""
        family: Family = 6 if ":" in subnet else 4
        fields.setdefault("default", True)
        await self.apply(ApplyPool(Pool(name, family, subnet, ips, **fields)))

    async def pod(self, name: str, annotations: dict[str, Any], **fields: Any) -> None:
        """Apply the record of a Pod in namespace shop.

        Annotation names without a prefix get ``ipam.spidernet.io/``.
        """
        texts = {
            key if "/" in key else f"ipam.spidernet.io/{key}": (
                value if isinstance(value, str) else json.dumps(value)
            )
            for key, value in annotations.items()
        }
        await self.apply(ApplyRecord(RecordDefined("Pod", "shop", name, {}, texts, **fields)))

    # The runtime

    def environment(self, verb: str, pod: str = "web-0", **changes: str) -> dict[str, str]:
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"c-{pod}",
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};"
            f"K8S_POD_INFRA_CONTAINER_ID=c-{pod};K8S_POD_UID=uid-{pod}",
            "CNI_PATH": "/opt/cni/bin",
        } | changes

    def netconf(self, version: str = "1.1.0", /, **fields: Any) -> dict[str, Any]:
        ipam = {"type": "spiderpool", "log_file_path": self.process.settings.plugin_log_path}
        ipam |= fields.pop("ipam", {})
        return {"cniVersion": version, "name": "lan", "type": "macvlan", "ipam": ipam} | fields

    async def call(
        self,
        verb: str,
        pod: str = "web-0",
        *,
        conf: dict[str, Any] | bytes | None = None,
        **changes: str,
    ) -> Reply:
        conf = self.netconf() if conf is None else conf
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        return await self.raw(request_frame(self.environment(verb, pod, **changes), stdin))

    async def raw(self, request: bytes) -> Reply:
        return await exchange(self.process.settings.framed_socket_path, request)

    async def add(self, pod: str = "web-0", **options: Any) -> list[str]:
        """Run an ADD; return its addresses, each with a prefix length."""
        reply = await self.call("ADD", pod, **options)
        return [entry["address"] for entry in reply.result["ips"]]

    async def delete(self, pod: str = "web-0", **options: Any) -> None:
        reply = await self.call("DEL", pod, **options)
        assert (reply.status, reply.body) == (0, b""), reply.body.decode()

    # The state in the store

    async def claims(self) -> dict[str, Claim]:
        response = await self.store.read([Get(*self.keys.range_of("ip"))])
        return {
            str(self.keys.address_in(kv.key)): CLAIM_CODEC.decode(kv.value)
            for kv in response.ranges[0].kvs
        }

    async def endpoint(self, pod: str = "web-0") -> Endpoint | None:
        response = await self.store.read([Get(self.keys.endpoint("shop", pod))])
        kvs = response.ranges[0].kvs
        return ENDPOINT_CODEC.decode(kvs[0].value) if kvs else None
