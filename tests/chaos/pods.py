"""Creates and deletes Pods on one node, as kubelet and a container runtime do.

Each slot of a node repeatedly creates a Pod, and deletes it after some seconds. A DEL is repeated
until success. Random variants:

- an ADD is repeated, made twice concurrently, or abandoned by the caller
- a new Pod gets the name of an old Pod before the DEL of the old Pod
- a sandbox is deleted without a DEL, so that GC must release the addresses
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.chaos.call_record import CallRecord
from tests.chaos.callers import NO_ANSWER, Caller, Reply, Sandbox
from tests.chaos.etcd_client import Etcd
from tests.chaos.plan import POOLS_CHANGING

BASE_POOL: Final = "base"
LIFE_S_MAX: Final = 4.0
RETRY_S: Final = 0.5
NAMES_PER_SLOT: Final = 3
# Shares (0 to 1) of calls or Pods:
HTTP_SHARE: Final = 0.25
REPEAT_SHARE: Final = 0.25
RECREATE_SHARE: Final = 0.1
FORGET_SHARE: Final = 0.05
CHECK_SHARE: Final = 0.1
TWIN_SHARE: Final = 0.05
ABANDON_SHARE: Final = 0.05
ABANDON_S_MAX: Final = 0.05


def changing_pool(number: int) -> str:
    return f"changing-{number}"


class Node:
    """The runtime of one node.

    ``living`` maps a container to its addresses, from a successful ADD until its Pod is deleted.
    """

    def __init__(self, number: int, directory: Path, caller: Caller, etcd: Etcd, seed: int) -> None:
        self.number = number
        self.calls: list[CallRecord] = []
        self.living: dict[str, tuple[str, ...]] = {}
        self.counts: Counter[str] = Counter()
        self._existing: dict[str, Sandbox] = {}
        self._netns = directory / f"netns-{number}"
        self._netns.mkdir()
        self._caller = caller
        self._etcd = etcd
        self._rng = random.Random(f"{seed}/{number}")
        self._serial = 0
        self.is_ending = False
        self.served_at: list[float] = []
        """Monotonic times of successful ADDs."""

    async def run_slot(self, slot: int) -> None:
        """Create and delete Pods until ``is_ending``; the last Pod may stay."""
        pod_number = 0
        while not self.is_ending:
            pod_number += 1
            await self._run_pod(f"web-{self.number}-{slot}-{pod_number % NAMES_PER_SLOT}")

    async def run_gc(self) -> Reply:
        revision_before = self._etcd.revision
        no_sandbox = Sandbox("", "", "", "")
        reply = await self._caller.call_gc(list(self._existing.values()))
        return await self._record("GC", no_sandbox, reply, revision_before)

    async def probe(self) -> bool:
        sandbox = self._sandbox(f"probe-{self.number}", "")
        added = await self._call("ADD", sandbox, [BASE_POOL])
        deleted = await self._call("DEL", sandbox, [BASE_POOL])
        if deleted.code != 0:
            await self._delete(sandbox, [BASE_POOL])
        self._remove(sandbox)
        return added.code == 0 and deleted.code == 0

    async def _run_pod(self, pod: str) -> None:
        pools, rng = self._pools(), self._rng
        sandbox = self._sandbox(pod, self._uid())
        is_forgotten = rng.random() < FORGET_SHARE
        # Only GC releases a forgotten sandbox. GC needs a CNI network; an ADD over HTTP has none.
        added = await self._add(sandbox, pools, may_use_http=not is_forgotten)
        if added.code != 0:
            await self._delete_pod(sandbox, pools)
            await asyncio.sleep(rng.uniform(0, 2 * RETRY_S))
            return
        self.living[sandbox.container] = added.addresses
        await asyncio.sleep(rng.uniform(0, LIFE_S_MAX / 2))
        if rng.random() < REPEAT_SHARE:
            await self._call("ADD", sandbox, pools, may_use_http=not is_forgotten)
        if rng.random() < CHECK_SHARE:
            await self._call("CHECK", sandbox, pools)
        await asyncio.sleep(rng.uniform(0, LIFE_S_MAX / 2))
        if self.is_ending and rng.random() < 1 / 2:
            return
        if is_forgotten:
            self._forget(sandbox)
            return
        if rng.random() < RECREATE_SHARE:
            # A new Pod of the same name is added before the DEL of the old Pod.
            new_sandbox = self._sandbox(pod, self._uid())
            del self.living[sandbox.container]
            await self._call("ADD", new_sandbox, pools)
            await self._delete_pod(new_sandbox, pools)
        await self._delete_pod(sandbox, pools)

    async def _add(self, sandbox: Sandbox, pools: list[str], *, may_use_http: bool) -> Reply:
        choice = self._rng.random()
        if choice < ABANDON_SHARE:
            calling = asyncio.ensure_future(self._caller.call("ADD", sandbox, pools))
            await asyncio.wait((calling,), timeout=self._rng.uniform(0, ABANDON_S_MAX))
            calling.cancel()
            await asyncio.wait((calling,))
            self.counts["ADD abandoned"] += 1
            return Reply(NO_ANSWER, message="the caller abandoned the ADD")
        if choice < ABANDON_SHARE + TWIN_SHARE:
            replies = await asyncio.gather(
                self._call("ADD", sandbox, pools, may_use_http=may_use_http),
                self._call("ADD", sandbox, pools, may_use_http=may_use_http),
            )
            # If one ADD succeeds, return its reply.
            return min(replies, key=lambda reply: reply.code != 0)
        return await self._call("ADD", sandbox, pools, may_use_http=may_use_http)

    async def _delete_pod(self, sandbox: Sandbox, pools: list[str]) -> None:
        self.living.pop(sandbox.container, None)
        await self._delete(sandbox, pools)
        if self._rng.random() < REPEAT_SHARE:
            await self._call("DEL", sandbox, pools)
        self._remove(sandbox)

    async def _delete(self, sandbox: Sandbox, pools: list[str]) -> None:
        while (await self._call("DEL", sandbox, pools)).code != 0:
            self.counts["DEL repeated"] += 1
            await asyncio.sleep(RETRY_S)

    async def _call(
        self, verb: str, sandbox: Sandbox, pools: list[str], *, may_use_http: bool = True
    ) -> Reply:
        revision_before = self._etcd.revision
        if may_use_http and verb != "CHECK" and self._rng.random() < HTTP_SHARE:
            reply = await self._caller.call_http(verb, sandbox, pools)
        else:
            reply = await self._caller.call(verb, sandbox, pools)
        return await self._record(verb, sandbox, reply, revision_before)

    async def _record(
        self, verb: str, sandbox: Sandbox, reply: Reply, revision_before: int
    ) -> Reply:
        self.counts[f"{verb} {'done' if reply.code == 0 else 'failed'}"] += 1
        if verb == "ADD" and reply.code == 0:
            self.served_at.append(time.monotonic())
        revision_after = await self._etcd.current_revision() if reply.code == 0 else 0
        self.calls.append(
            CallRecord(verb, self.number, sandbox, reply, revision_before, revision_after)
        )
        return reply

    def _forget(self, sandbox: Sandbox) -> None:
        del self.living[sandbox.container]
        self.counts["sandbox forgotten"] += 1
        self._remove(sandbox)

    def _sandbox(self, pod: str, uid: str) -> Sandbox:
        container = f"{self._rng.getrandbits(256):064x}"
        netns = self._netns / container[:16]
        netns.touch()
        sandbox = Sandbox(pod, uid or self._uid(), container, str(netns))
        self._existing[container] = sandbox
        return sandbox

    def _remove(self, sandbox: Sandbox) -> None:
        self._existing.pop(sandbox.container, None)
        Path(sandbox.netns).unlink(missing_ok=True)

    def _uid(self) -> str:
        self._serial += 1
        return f"{self._rng.getrandbits(32):08x}-{self.number:04x}-4000-8000-{self._serial:012x}"

    def _pools(self) -> list[str]:
        changing = changing_pool(self._rng.randrange(POOLS_CHANGING))
        choice = self._rng.random()
        if choice < 1 / 2:
            return [BASE_POOL]
        return [changing, BASE_POOL] if choice < 5 / 6 else [changing]
