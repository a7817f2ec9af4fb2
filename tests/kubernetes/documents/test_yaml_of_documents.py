"""Every YAML block of the documents for users is accepted by the program that reads it.

An API server with our definitions and webhooks applies objects in a dry run. The chart renders
Helm values. The parser of agent and controller reads parts of conf.yml.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from core.manifests.commands import apply_command
from core.settings.conf_file import parse_conf
from ops.cli.manifest_objects import read_value
from tests.chart.rendering import objects
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.documents import fenced_blocks
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs
from tests.tidy.test_blocks_of_documents import DOCUMENTS

pytest.importorskip("helm_python", reason=needs(HELM))

DOCS: Final = Path(__file__).parents[3] / "docs"


class Subject(NamedTuple):
    """A YAML block: its page, and the kind of its object or its first key."""

    page: str
    name: str


VALUES: Final = frozenset(
    {Subject("guides/rdma-roce.md", name) for name in ("rdma", "orbweaver")}
    | {Subject("how-to/use-the-console.md", "orbweaver")}
)
"""Blocks with Helm values of the chart."""

CONF: Final = frozenset(
    {
        Subject("how-to/limit-pods-by-nic.md", "agent"),
        Subject("how-to/serve-clusterips.md", "orbweaver"),
        Subject("how-to/use-a-network-provider.md", "iaasNetworkProvider"),
    }
)
"""Blocks that are parts of conf.yml."""

APPLICATIONS: Final = frozenset(
    {
        Subject("guides/kubevirt.md", "VirtualMachine"),
        Subject("guides/third-party-controllers.md", "CloneSet"),
    }
)
"""Blocks with objects of other projects, which ``orbctl apply`` skips with a reason."""

NOT_TRIED: Final = {
    **{
        Subject("guides/calico.md", kind): "an object of Calico, which has its own definitions"
        for kind in ("IPPool", "BGPPeer")
    },
    Subject("guides/kind.md", "Cluster"): "the configuration of kind, a program",
    **{
        Subject(page, name): "annotations of a Pod: guides/own-pool.md runs the same ones"
        for page, name in (
            ("concepts/automatic-pools.md", "ipam.spidernet.io/subnet"),
            ("guides/third-party-controllers.md", "ipam.spidernet.io/subnet"),
            ("how-to/give-an-application-its-own-pool.md", "metadata"),
        )
    },
    Subject("concepts/fixed-addresses.md", "metadata"): (
        "an annotation of a Pod: tests/kubernetes/workloads/test_ipam_claims.py uses it"
    ),
}
"""Blocks that no test of this file tries, with the reason."""


def found_blocks() -> Iterator[tuple[Subject, str]]:
    """Yield every YAML block of the pages in English."""
    for path in DOCUMENTS:
        for language, text in fenced_blocks(path):
            if language == "yaml" and path.parent.name != "zh":
                first = next(yaml.safe_load_all(text))
                name = first.get("kind") or next(iter(first))
                page = str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else path.name
                yield Subject(page, name), text


BLOCKS: Final = list(found_blocks())
READ_ELSEWHERE: Final = VALUES | CONF | APPLICATIONS | NOT_TRIED.keys()


def parameters_of(subjects: frozenset[Subject]) -> list[Any]:
    """The parameters of a test of these blocks."""
    return [
        pytest.param(text, id=f"{subject.page}-{subject.name}")
        for subject, text in BLOCKS
        if subject in subjects
    ]


@pytest.fixture
async def hooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(server, tmp_path) as found:
        yield found


async def test_a_server_with_our_webhooks_accepts_every_object(hooks: Webhooks) -> None:
    server = hooks.cluster.server
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "orbweaver"}}
    server.request("POST", "/api/v1/namespaces", space)
    applied = 0

    for subject, text in BLOCKS:
        if subject not in READ_ELSEWHERE:
            command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
            output = await asyncio.to_thread(server.kubectl, *command, stdin=text)
            assert output.count("(server dry run)") == len(list(yaml.safe_load_all(text))), subject
            applied += 1

    assert applied > 0


@pytest.mark.parametrize("text", parameters_of(VALUES))
def test_values_are_accepted_by_the_chart(text: str) -> None:
    assert objects(yaml.safe_load(text))


@pytest.mark.parametrize("text", parameters_of(CONF))
def test_parts_of_conf_yml_are_read(text: str) -> None:
    known = parse_conf(text.encode(), "conf.yml")

    assert set(yaml.safe_load(text)) <= {*known.__struct_encode_fields__}


@pytest.mark.parametrize("text", parameters_of(APPLICATIONS))
def test_orbctl_skips_an_application_of_another_project_with_the_reason(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = read_value(yaml.safe_load(text), "block", apply_command)

    assert result is None
    assert "known from the ownerReferences" in capsys.readouterr().err


def test_every_subject_of_the_tables_is_in_the_documents() -> None:
    assert READ_ELSEWHERE - {subject for subject, _ in BLOCKS} == set()
