"""One API server with our CRDs for the tests of this folder; what a test made is swept after it.

Where its program is missing, tests with the mark ``simulated`` run against the ``kmock`` package,
as far as it goes; the others are skipped, and the last lines of the run count them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.manifests.crds.definitions import KINDS, definition_of
from core.manifests.kinds.fields import API_VERSION
from core.manifests.manifest_writer import dump_yaml
from tests.support.audit import Audit
from tests.support.kmock_server import MockServer
from tests.support.kubernetes import ASSETS, MERGE, ApiServer, missing_programs
from tests.support.parts import API_SERVER, needs, note_substitute

CONTROLLERS = ("controller-1", "controller-2")
"""Users whose requests are in the audit log. They may do everything."""

GROUP_PATH = f"/apis/{API_VERSION}"
HERE = Path(__file__).parent
SIMULATED = "simulated"
"""The mark of what the ``kmock`` package can show too; ``lacks``: why it cannot after all."""

MISSING = needs(API_SERVER, f"no kube-apiserver and kubectl in {ASSETS}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without an API server, skip what ``kmock`` cannot show, and say what that is."""
    if not missing_programs():
        return
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if item.path.parent == HERE and "bare_server" in fixtures:
            mark = item.get_closest_marker(SIMULATED)
            lacks = mark.kwargs.get("lacks") if mark else None
            if mark is None or lacks:
                reason = needs(API_SERVER, lacks) if lacks else MISSING
                item.add_marker(pytest.mark.skip(reason=reason))
            else:
                note_substitute(item, API_SERVER, "kmock")


@pytest.fixture(scope="session")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows nothing of us."""
    directory = Path(tmp_path_factory.mktemp("kubernetes"))
    users = dict.fromkeys(CONTROLLERS, "system:masters")
    flags = Audit(directory, CONTROLLERS).flags()
    with (
        MockServer(directory)
        if missing_programs()
        else ApiServer(directory, flags=flags, users=users)
    ) as server:
        yield server


@pytest.fixture(scope="session")
def server_with_crds(bare_server: ApiServer) -> ApiServer:
    """The same, with our CRDs established."""
    if not isinstance(bare_server, MockServer):
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
