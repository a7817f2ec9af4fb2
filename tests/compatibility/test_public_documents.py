"""Every object in Spiderpool's documents has the outcome in documents/spiderpool-VERSION.tsv."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.compatibility.public_documents import (
    GENERATION_COMMITS,
    REPOSITORY_VARIABLE,
    TABLES_FOLDER,
    Row,
    blocks,
    documents,
    rows_of,
)
from tests.packaging.project import PROJECT_ROOT
from tests.support.parts import PUBLIC_DOCUMENTS, needs

REPOSITORY_PATH = os.environ.get(REPOSITORY_VARIABLE, "")
COMPATIBILITY_PAGE = PROJECT_ROOT / "docs/contributing/compatibility.md"


def read_table(generation: str) -> list[Row]:
    text = (TABLES_FOLDER / f"spiderpool-{generation}.tsv").read_text("utf-8")
    return [Row(*line.split("\t")) for line in text.splitlines()]


@pytest.mark.skipif(not REPOSITORY_PATH, reason=needs(PUBLIC_DOCUMENTS))
@pytest.mark.parametrize("generation", GENERATION_COMMITS)
async def test_each_object_of_the_documents_has_the_outcome_in_the_table(generation: str) -> None:
    pages = documents(REPOSITORY_PATH, GENERATION_COMMITS[generation])

    rows = [row for file in sorted(pages) for row in await rows_of(file, pages[file])]

    if os.environ.get("ORBWEAVER_REWRITE"):
        text = "".join("\t".join(row) + "\n" for row in rows)
        (TABLES_FOLDER / f"spiderpool-{generation}.tsv").write_text(text, "utf-8")
    assert rows == read_table(generation)


@pytest.mark.parametrize("generation", GENERATION_COMMITS)
def test_the_page_on_compatibility_has_the_counts_of_the_tables(generation: str) -> None:
    rows = read_table(generation)
    counts = Counter(row.outcome for row in rows)
    blocks_of = {(row.file, row.block) for row in rows}
    cells = (
        *(generation, f"`{GENERATION_COMMITS[generation][:8]}`", len(blocks_of), counts["applied"]),
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


def test_here_documents_fences_and_printed_objects_are_blocks() -> None:
    numbered = [(block.number, block.text) for block in blocks("guide.md", PAGE_OF_A_GUIDE)]

    assert numbered == [
        (1, "apiVersion: v1\nkind: Pod\nmetadata: {name: ens3, namespace: ${UNSET}}\n"),
        (2, "kind: A\n---\nkind: B\n"),
        (3, "apiVersion: v1\nkind: Pod\n"),
    ]


async def test_all_objects_of_a_file_are_applied_to_the_same_cluster() -> None:
    pool = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
    pool += "metadata: {name: NAME}\nspec: {subnet: 10.6.0.0/16, ips: [10.6.0.9], vlan: 0}\n"
    text = "---\n".join(pool.replace("NAME", name) for name in ("a", "b"))

    rows = await rows_of("one.yaml", f"{text}---\nkind: [\n")
    assert [row.outcome for row in rows] == ["no manifest"]  # one document is invalid
    rows = await rows_of("one.yaml", text)
    # Both pools have the same address.
    assert [(row.name, row.outcome, row.detail) for row in rows] == [
        ("spiderippool/a", "noted", "vlan"),
        ("spiderippool/b", "refused", "addresses-overlap:spec.ips"),
    ]
