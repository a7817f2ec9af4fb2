"""Every YAML block of the user documents is accepted by the program that reads it.

The programs are an API server with our CRDs and webhooks, the chart, and the parser of conf.yml.
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
from tests.chart.rendering import render_objects
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.documents import fenced_blocks
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs
from tests.tidy.test_blocks_of_documents import DOCUMENTS

pytest.importorskip("helm_python", reason=needs(HELM))

DOCS: Final = Path(__file__).parents[3] / "docs"


class BlockName(NamedTuple):
    """Identifies a YAML block by its page, and by the kind of its object or its first key."""

    page: str
    kind_or_key: str


HELM_VALUE_BLOCKS: Final = frozenset(
    {BlockName("guides/rdma-roce.md", name) for name in ("rdma", "orbweaver")}
    | {BlockName("how-to/use-the-console.md", "orbweaver")}
)
CONF_YML_BLOCKS: Final = frozenset(
    {
        BlockName("how-to/limit-pods-by-nic.md", "agent"),
        BlockName("how-to/serve-clusterips.md", "orbweaver"),
        BlockName("how-to/use-a-network-provider.md", "iaasNetworkProvider"),
    }
)

APPLICATION_BLOCKS: Final = frozenset(
    {
        BlockName("guides/kubevirt.md", "VirtualMachine"),
        BlockName("guides/third-party-controllers.md", "CloneSet"),
    }
)
"""Blocks with applications of other projects; ``orbctl apply`` skips them and prints a reason."""

REASON_BY_UNTESTED_BLOCK: Final = {
    **{
        BlockName("guides/calico.md", kind): "an object of Calico, which has its own definitions"
        for kind in ("IPPool", "BGPPeer")
    },
    BlockName("guides/kind.md", "Cluster"): "the configuration of kind, a program",
    **{
        BlockName(page, name): "annotations of a Pod, which are also in guides/own-pool.md"
        for page, name in (
            ("concepts/automatic-pools.md", "ipam.spidernet.io/subnet"),
            ("guides/third-party-controllers.md", "ipam.spidernet.io/subnet"),
            ("how-to/give-an-application-its-own-pool.md", "metadata"),
        )
    },
    BlockName("concepts/fixed-addresses.md", "metadata"): (
        "an annotation of a Pod: tests/kubernetes/workloads/test_ipam_claims.py uses it"
    ),
}
"""Block that this file does not test -> why."""


def yaml_blocks() -> Iterator[tuple[BlockName, str]]:
    """Yield every YAML block of the English pages."""
    for path in DOCUMENTS:
        for language, text in fenced_blocks(path):
            if language == "yaml" and path.parent.name != "zh":
                first = next(yaml.safe_load_all(text))
                name = first.get("kind") or next(iter(first))
                page = str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else path.name
                yield BlockName(page, name), text


BLOCKS: Final = list(yaml_blocks())
BLOCKS_NOT_FOR_THE_API_SERVER: Final = (
    HELM_VALUE_BLOCKS | CONF_YML_BLOCKS | APPLICATION_BLOCKS | REASON_BY_UNTESTED_BLOCK.keys()
)


def parameters_of(names: frozenset[BlockName]) -> list[Any]:
    return [
        pytest.param(text, id=f"{name.page}-{name.kind_or_key}")
        for name, text in BLOCKS
        if name in names
    ]


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(server, tmp_path) as webhooks:
        yield webhooks


async def test_the_api_server_and_our_webhooks_accept_the_objects_in_blocks(
    webhooks: Webhooks,
) -> None:
    server = webhooks.cluster.server
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "orbweaver"}}
    server.request("POST", "/api/v1/namespaces", namespace)
    applied_blocks = 0

    for name, text in BLOCKS:
        if name not in BLOCKS_NOT_FOR_THE_API_SERVER:
            command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
            output = await asyncio.to_thread(server.kubectl, *command, stdin=text)
            assert output.count("(server dry run)") == len(list(yaml.safe_load_all(text))), name
            applied_blocks += 1

    assert applied_blocks > 0, "no block was applied"


@pytest.mark.parametrize("text", parameters_of(HELM_VALUE_BLOCKS))
def test_the_chart_accepts_the_helm_values_in_blocks(text: str) -> None:
    assert render_objects(yaml.safe_load(text))


@pytest.mark.parametrize("text", parameters_of(CONF_YML_BLOCKS))
def test_the_parser_knows_the_conf_yml_keys_in_blocks(text: str) -> None:
    conf = parse_conf(text.encode(), "conf.yml")

    assert set(yaml.safe_load(text)) <= {*conf.__struct_encode_fields__}


@pytest.mark.parametrize("text", parameters_of(APPLICATION_BLOCKS))
def test_orbctl_skips_an_application_of_another_project_and_prints_the_reason(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = read_value(yaml.safe_load(text), "block", apply_command)

    assert result is None
    assert "known from the ownerReferences" in capsys.readouterr().err


def test_every_block_name_of_this_file_is_in_the_documents() -> None:
    assert BLOCKS_NOT_FOR_THE_API_SERVER - {name for name, _ in BLOCKS} == set()
