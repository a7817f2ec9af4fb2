"""``orbctl describe endpoint`` shows a network provider's bindings, which are not in the log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.allocation.bindings import Binding, BindingRequest, BindingStore, State, StoredBinding
from core.eventstore.keys import Keys
from tests.support.node_harness import NodeHarness, pod, pool
from tests.support.orbctl_harness import CLUSTER_NAME, OrbctlHarness


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("asked", "asked to bind; the ADD waits"),
        ("failed", "the bind failed and is being undone (no such subnet)"),
    ],
)
def test_the_description_of_an_endpoint_shows_the_state_of_its_binding(
    state: State, words: str, tmp_path: Path
) -> None:
    orbctl = OrbctlHarness(tmp_path)

    async def claim(node: NodeHarness) -> None:
        await node.apply(pool("lan", "10.6.0.1"))
        await node.add(pod("web-0"))

    orbctl.on_node("n1", claim)
    request = BindingRequest(
        "shop", endpoint="web-0", pod="web-0", uid="uid-web-0", node="n1", addresses=(), claims=()
    )
    why = "no such subnet" if state == "failed" else ""
    bindings = BindingStore(orbctl.store, Keys(CLUSTER_NAME))
    asyncio.run(bindings.write(StoredBinding(), Binding(request, state, why)))

    output = orbctl.orbctl("describe", "endpoint", "shop/web-0").out

    assert words in output
    assert f"see `orbctl workflow describe {request.workflow_id}`" in output
