"""docs/contributing/guides.md states how each guide of Spiderpool's usage index is proved here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.documents import shell_blocks
from tests.support.yaml_reader import read_yaml
from tests.tidy.sources import PROJECT_ROOT

PAGE: Final = PROJECT_ROOT / "docs" / "contributing" / "guides.md"
GUIDES: Final = PROJECT_ROOT / "docs" / "guides"
NOT_GUIDES: Final = frozenset({"index.md", "before-you-begin.md"})
"""Pages of ``docs/guides`` that have no row."""

LINKS: Final = frozenset(
    [
        "get-started-macvlan",
        "get-started-sriov",
        "get-started-ovs",
        "get-started-calico/underlay",
        "get-started-weave",
        "rdma-roce",
        "rdma-ib",
        "get-started-alibaba",
        "get-started-vmware",
        "get-started-aws",
        "get-started-kind",
        "get-started-calico/overlay",
        "get-started-cilium",
        "arch/underlays",
        "arch/overlay-and-underlays",
        "certificate",
        "uninstall",
        "upgrade",
        "spider-affinity",
        "spider-subnet",
        "statefulset",
        "kubevirt",
        "network-topology",
        "operator",
        "route",
        "spider-ippool",
        "reserved-ip",
        "ipam-performance",
        "ipam-des",
        "multi-interfaces-annotation",
        "coordinator/mac-prefix",
        "coordinator/detection",
        "underlay_cni_service",
        "submariner",
        "plugin-ifacer",
        "spider-multus-config",
        "metrics",
    ]
)
"""The pages to which the usage index of Spiderpool 1.0 links."""

ROW: Final = re.compile(r"^\| (.+?) \| \[.+?\]\((\S+?)\) \| (\w+) \|", re.MULTILINE)
LINK_PATTERN: Final = re.compile(r"`([\w-]+)`(?: \((.+)\))?")
TEST_PATH: Final = re.compile(r"`(tests/[\w/.]+)`")
WAIT_FOR_PODS: Final = re.compile(r"--for=condition=Ready pod/|rollout status")
SET_OPTION: Final = re.compile(r"--set ([\w.]+)=")


class Row(NamedTuple):
    """A table row; its subject is a link of the usage index or a way to install."""

    subject: str
    page: str
    proof: str


def rows() -> list[Row]:
    return [Row(*match.groups()) for match in ROW.finditer(PAGE.read_text("utf-8"))]


def link_of(row: Row) -> str | None:
    """The link of a row; None for a way to install."""
    match = LINK_PATTERN.fullmatch(row.subject)
    if match is None or match[1] not in {link.partition("/")[0] for link in LINKS}:
        return None
    part = f"/{match[2].lower().replace(' ', '-')}" if match[2] else ""
    return f"{match[1]}{part}"


def proof_of(path: Path) -> str:
    """How tests/nodes/test_guides.py proves a guide: "read", "executed" or "rendered"."""
    blocks = shell_blocks(path)
    if not blocks:
        return "read"
    return "executed" if any(WAIT_FOR_PODS.search(block) for block in blocks) else "rendered"


def test_every_link_of_the_index_has_a_row() -> None:
    assert {link for row in rows() if (link := link_of(row))} == LINKS


def test_the_row_of_every_guide_states_its_proof() -> None:
    stated = {
        Path(row.page).name: row.proof for row in rows() if link_of(row) and "guides/" in row.page
    }
    guides = {
        path.name: proof_of(path) for path in GUIDES.glob("*.md") if path.name not in NOT_GUIDES
    }

    assert stated == guides


def test_every_test_that_the_tables_name_exists() -> None:
    named_tests = TEST_PATH.findall(PAGE.read_text("utf-8"))

    assert named_tests
    assert [path for path in named_tests if not (PROJECT_ROOT / path).exists()] == []


def test_every_value_that_a_page_sets_exists_in_the_chart() -> None:
    chart = read_yaml((PROJECT_ROOT / "ops/charts/orbweaver/values.yaml").read_text("utf-8"))
    unknown = {
        f"{path.name}: {name}"
        for path in (PROJECT_ROOT / "docs").rglob("*.md")
        for name in SET_OPTION.findall(path.read_text("utf-8"))
        if value_of(chart, name.split(".")) is None
    }

    assert unknown == set()


def value_of(values: object, parts: list[str]) -> object:
    """The chart's value at a path, or None."""
    for part in parts:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def test_every_guide_deletes_the_pods_that_it_starts() -> None:
    """A remaining Pod would prevent the deletion of the guide's pool."""
    remaining = []
    for path in sorted(GUIDES.glob("*.md")):
        pods = re.findall(
            r"^kind: Pod\nmetadata:\n  name: (\S+)", path.read_text("utf-8"), re.MULTILINE
        )
        undo = path.read_text("utf-8").partition("\n## Undo\n")[2]
        remaining += [f"{path.name}: {name}" for name in pods if f"pod/{name}" not in undo]

    assert remaining == []
