"""One API server with our CRDs for the tests of this folder; what a test made is swept after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.manifests.crds.definitions import KINDS, definition_of
from core.manifests.kinds.fields import API_VERSION
from core.manifests.writing import dump_yaml
from tests.support.kubernetes import ASSETS, MERGE, ApiServer, missing_programs

GROUP_PATH = f"/apis/{API_VERSION}"


@pytest.fixture(scope="session")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows nothing of us."""
    missing = missing_programs()
    if missing:
        pytest.skip(
            f"no {' and no '.join(missing)} in {ASSETS}: not tried against a real API server were"
            " CRDs, defaults, CEL rules, columns, translation and reports"
            " (`setup-envtest use -p path` says where it puts them; set KUBEBUILDER_ASSETS)"
        )
    with ApiServer(Path(tmp_path_factory.mktemp("kubernetes"))) as server:
        yield server


@pytest.fixture(scope="session")
def server_with_crds(bare_server: ApiServer) -> ApiServer:
    """The same, with our CRDs established."""
    text = dump_yaml(map(definition_of, KINDS))
    bare_server.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    bare_server.request("POST", "/api/v1/namespaces", space)
    for kind in KINDS:
        bare_server.wait_served(f"{GROUP_PATH}/{kind.plural}")
    return bare_server


@pytest.fixture
def server(server_with_crds: ApiServer) -> Iterator[ApiServer]:
    """The same, and empty again after the test."""
    yield server_with_crds
    for kind in KINDS:
        for one in server_with_crds.wait_served(f"{GROUP_PATH}/{kind.plural}")["items"]:
            metadata = one["metadata"]
            within = f"/namespaces/{metadata['namespace']}" if kind.namespaced else ""
            path = f"{GROUP_PATH}{within}/{kind.plural}/{metadata['name']}"
            server_with_crds.request("DELETE", path)
            if metadata.get("finalizers"):
                freed = {"metadata": {"finalizers": None}}
                server_with_crds.request("PATCH", path, freed, content=MERGE)
