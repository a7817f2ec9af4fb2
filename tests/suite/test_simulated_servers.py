"""The simulated servers of the suite answer like the servers that they replace."""

from __future__ import annotations

from core.kubernetes.api_client import Object
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi


def pod(namespace: str) -> Object:
    return {"metadata": {"namespace": namespace, "name": "web"}}


async def test_a_list_of_a_namespace_omits_namespaces_whose_names_begin_alike() -> None:
    api = ScriptedApi()
    for namespace in ("shop", "shop-2"):
        api.put("/api/v1/pods", pod(namespace))

    pages = [page async for page in api.pages("/api/v1/namespaces/shop/pods")]

    listed = [body["metadata"]["namespace"] for page in pages for body in page.objects()]
    assert listed == ["shop"]
