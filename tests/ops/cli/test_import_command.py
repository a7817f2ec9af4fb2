"""``orbctl import`` says which addresses it could not import, and what helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.manifests.spiderpool import Dump
from ops.cli.commands import import_command
from ops.cli.exit_codes import Exit
from ops.cli.import_sources import SPIDERPOOL, ReadDump
from tests.support.orbctl_harness import OrbctlHarness

DUMP = Path(__file__).parent / "transcripts" / "spiderpool.json"
OVERLAPPING_POOL = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: ours}
spec: {subnet: 10.6.0.0/16, ips: [10.6.0.1]}
"""
ADVICE = "Run the command again"


@pytest.fixture
def harness(tmp_path: Path) -> OrbctlHarness:
    return OrbctlHarness(tmp_path / "archive")


def test_an_import_advises_no_repetition_for_refused_addresses(
    harness: OrbctlHarness, tmp_path: Path
) -> None:
    (tmp_path / "pool.yaml").write_text(OVERLAPPING_POOL)
    assert harness.orbctl("apply", "-f", str(tmp_path / "pool.yaml")).code == Exit.OK

    imported = harness.orbctl("import", "spiderpool", "-f", str(DUMP), "--yes")

    assert imported.code == Exit.REFUSED
    assert "not imported: 10.6.0.1" in imported.out
    assert ADVICE not in imported.out


def test_an_import_advises_a_repetition_for_addresses_allocated_meanwhile(
    harness: OrbctlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DUMP.read_text()
    after = json.loads(text)["items"]
    before = [item for item in json.loads(text)["items"] if item["metadata"]["name"] != "db-0"]
    next(item for item in before if item["metadata"]["name"] == "old")["status"] = {}
    dumps = iter([dump_of(before), dump_of(after)])
    monkeypatch.setattr(import_command, "dump_reader", lambda *_: reader_of(dumps))

    imported = harness.orbctl("import", "spiderpool", "--yes")

    assert imported.code == Exit.REFUSED
    assert "not imported: 10.7.0.1" in imported.out
    assert ADVICE in imported.out


def dump_of(items: list[dict[str, object]]) -> Dump:
    return SPIDERPOOL.read(("dump", item) for item in items)


def reader_of(dumps: Iterator[Dump]) -> ReadDump:
    async def read() -> Dump:
        return next(dumps)

    return read
