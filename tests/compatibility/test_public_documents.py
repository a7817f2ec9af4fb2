"""Applies every object in Spiderpool's documents, and compares with recorded outcomes.

The outcomes are in documents/spiderpool-VERSION.tsv. ``noted``: applied with a note about a field.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.compatibility.public_documents import (
    REPOSITORY_VARIABLE,
    TABLES_FOLDER,
    VERSION_COMMITS,
    Row,
    blocks,
    documents,
    rows_of,
)
from tests.packaging.project import PROJECT_ROOT
from tests.support.parts import PUBLIC_DOCUMENTS, needs

REPOSITORY_PATH = os.environ.get(REPOSITORY_VARIABLE, "")
COMPATIBILITY_PAGE = PROJECT_ROOT / "docs/contributing/compatibility.md"


def read_table(version: str) -> list[Row]:
    text = (TABLES_FOLDER / f"spiderpool-{version}.tsv").read_text("utf-8")
    return [Row(*line.split("\t")) for line in text.splitlines()]


@pytest.mark.skipif(not REPOSITORY_PATH, reason=needs(PUBLIC_DOCUMENTS))
@pytest.mark.parametrize("version", VERSION_COMMITS)
async def test_each_object_of_the_documents_has_the_outcome_in_the_table(version: str) -> None:
    pages = documents(REPOSITORY_PATH, VERSION_COMMITS[version])

    rows = [row for file in sorted(pages) for row in await rows_of(file, pages[file])]

    if os.environ.get("ORBWEAVER_REWRITE"):
        text = "".join("\t".join(row) + "\n" for row in rows)
        (TABLES_FOLDER / f"spiderpool-{version}.tsv").write_text(text, "utf-8")
    assert rows == read_table(version)


@pytest.mark.parametrize("version", VERSION_COMMITS)
def test_the_page_on_compatibility_has_the_counts_of_the_tables(version: str) -> None:
    rows = read_table(version)
    counts = Counter(row.outcome for row in rows)
    block_ids = {(row.file, row.block) for row in rows}
    cells = (
        *(version, f"`{VERSION_COMMITS[version][:8]}`", len(block_ids), counts["applied"]),
        *(counts["noted"], counts["refused"], counts["no manifest"]),
    )

    assert f"| {' | '.join(map(str, cells))} |" in COMPATIBILITY_PAGE.read_text("utf-8")


PAGE_OF_A_GUIDE = """
    ```shell
    export MASTER="ens3"
    cat <<EOF | kubectl apply -f -
    apiVersion: v1
    kind: Pod
    metadata: {name: $MASTER, namespace: ${UNSET}}
    EOF
    ```

```yaml
kind: A
---
kind: B
```

```bash
~# kubectl get pod -o yaml
apiVersion: v1
kind: Pod
~# exit
```

```bash
cat <<EOF > values.yaml
not: a manifest
EOF
```
"""


def test_each_fence_here_document_and_printed_object_is_a_block() -> None:
    numbered = [(block.number, block.text) for block in blocks("guide.md", PAGE_OF_A_GUIDE)]

    assert numbered == [
        (1, "apiVersion: v1\nkind: Pod\nmetadata: {name: ens3, namespace: ${UNSET}}\n"),
        (2, "kind: A\n---\nkind: B\n"),
        (3, "apiVersion: v1\nkind: Pod\n"),
    ]


POOL = """apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: NAME}
spec: {subnet: 10.6.0.0/16, ips: [10.6.0.9], vlan: 0}
"""


async def test_a_file_with_an_invalid_document_is_no_manifest() -> None:
    rows = await rows_of("one.yaml", f"{POOL}---\nkind: [\n")

    assert [row.outcome for row in rows] == ["no manifest"]


async def test_all_objects_of_a_file_are_applied_to_the_same_cluster() -> None:
    text = "---\n".join(POOL.replace("NAME", name) for name in ("a", "b"))

    rows = await rows_of("one.yaml", text)

    # Both pools have the same address.
    assert [(row.name, row.outcome, row.detail) for row in rows] == [
        ("spiderippool/a", "noted", "vlan"),
        ("spiderippool/b", "refused", "addresses-overlap:spec.ips"),
    ]
