"""Commands of orbctl that print or change objects, files or a node."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from core.domain.configuration.commands import ApplyReservation, QuarantineAddress
from core.domain.model import Reservation
from core.errors import WriterFenced
from core.eventstore.etcd import EtcdSettings
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from core.projections.projection import Projection
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.pool_usage import count_pools
from ops.cli.session import FENCED_TRIES_MAX, ClusterSession
from ops.settings import ClusterSettings
from tests.support.node_harness import NodeHarness, pod, pool
from tests.support.orbctl_harness import OrbctlHarness

BLUE = """\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: blue, annotations: {annotations}}}
spec: {{subnet: 10.6.0.0/24, ips: [10.6.0.20-10.6.0.29]}}
"""

TRANSCRIPT_FOLDER = Path(__file__).parent / "transcripts"


@pytest.fixture
def orbctl(tmp_path: Path) -> OrbctlHarness:
    return OrbctlHarness(tmp_path / "archive")


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("kind", ["pools", "reservations", "records"])
def test_objects_that_get_prints_can_be_applied_again(
    orbctl: OrbctlHarness, tmp_path: Path, kind: str, form: str
) -> None:
    files = [str(TRANSCRIPT_FOLDER / name) for name in ("pools.yaml", "records.yaml")]
    assert orbctl.orbctl("apply", "-f", files[0], "-f", files[1]).code == 0
    orbctl.on_node("n1", lambda node: node.add(pod("web-0")))
    printed = tmp_path / "printed.yaml"
    printed.write_text(orbctl.orbctl("get", kind, "-A", "-o", form).out)

    reapplied = orbctl.orbctl("apply", "-f", str(printed))

    assert reapplied.code == 0
    assert reapplied.out
    assert all(line.endswith(" unchanged") for line in reapplied.out.splitlines())


def test_the_status_of_a_pool_has_the_fields_of_a_spiderippool(orbctl: OrbctlHarness) -> None:
    orbctl.orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / "pools.yaml"))
    orbctl.on_node("n1", lambda node: node.add(pod("web-0")))

    status = json.loads(orbctl.orbctl("get", "pool", "blue", "-o", "json").out)["status"]

    assert (status["allocatedIPCount"], status["totalIPCount"]) == (1, 10)
    assert json.loads(status["allocatedIPs"]) == {
        "10.6.0.11": {"pod": "shop/web-0", "podUid": "uid-web-0"}
    }


def test_apply_creates_a_repeated_object_only_once(orbctl: OrbctlHarness, tmp_path: Path) -> None:
    repeated = tmp_path / "repeated.yaml"
    manifests = (BLUE.format(annotations=f"{{team: {team}}}") for team in ("shop", "desk", "desk"))
    repeated.write_text("---\n".join(manifests))

    simulated = orbctl.orbctl("apply", "-f", str(repeated), "--dry-run").out.splitlines()
    applied = orbctl.orbctl("apply", "-f", str(repeated)).out.splitlines()

    outcomes = ("created", "configured", "unchanged")
    assert applied == [f"spiderippool/blue {outcome}" for outcome in outcomes]
    assert simulated == [f"{line} (dry run)" for line in applied]


async def test_counts_from_etcd_equal_the_counts_of_the_projection() -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(
            pool("blue", "10.6.0.10-10.6.0.19", "10.6.0.30-10.6.0.39", "10.6.0.50"),
            pool("green", "10.6.0.20-10.6.0.29"),
            pool("six", "fd00:6::1-fd00:6::ffff"),
        )
        for number in range(12):
            await node.add(pod(f"web-{number}"))
        await node.apply(
            ApplyReservation(Reservation("r", 4, ("10.6.0.15-10.6.0.35",))),
            QuarantineAddress("10.6.0.12", "x"),
        )
        ledger = await node.read_ledger()
        counts = await count_pools(node.store, node.keys, ledger, list(ledger.pools.values()))

    tallies = Projection(ledger).tallies
    assert {name: tuple(count) for name, count in counts.items()} == {
        name: (tally.counts.claimed, tally.counts.free) for name, tally in tallies.items()
    }


def session(store: MemoryStore) -> ClusterSession:
    settings = ClusterSettings(EtcdSettings(("unused",)), "default", Path("unused"))
    context = ProcessContext(open_store=lambda _: store, now_ms=lambda: 0, who=lambda: "ann@desk")
    return ClusterSession(settings, context)


async def test_a_command_with_a_fenced_writer_retries_with_a_new_epoch() -> None:
    cluster = session(MemoryStore())
    epochs = []

    async def write(writer: Writer) -> str:
        epochs.append(writer.epoch)
        if len(epochs) == 1:
            # Opening a writer of the same name fences this writer.
            await Writer(cluster.store, cluster.keys, writer.name).open()
        applied = await cluster.configurator(writer).apply(
            QuarantineAddress("10.0.0.1", "x"), cluster.cause
        )
        return f"{len(applied.events)} event"

    assert await cluster.write(write) == "1 event"
    assert epochs == [1, 3]  # the other writer has epoch 2


async def test_a_command_fails_if_its_writer_is_fenced_at_every_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ops.cli.session.FENCED_PAUSE_S_MAX", 0)
    cluster = session(MemoryStore())
    tries = []

    async def write(writer: Writer) -> None:
        tries.append(writer)
        raise WriterFenced("taken over")

    with pytest.raises(WriterFenced, match="other runs of orbctl keep writing as"):
        await cluster.write(write)
    assert len(tries) == FENCED_TRIES_MAX


async def test_concurrent_commands_all_succeed() -> None:
    store = MemoryStore()

    async def quarantine(number: int) -> int:
        cluster = session(store)
        command = QuarantineAddress(f"10.0.0.{number}", "x")
        applied = await cluster.write(
            lambda writer: cluster.configurator(writer).apply(command, cluster.cause)
        )
        return len(applied.events)

    assert await asyncio.gather(*(quarantine(number) for number in range(4))) == [1] * 4


def test_an_installation_can_be_repeated_and_removed(orbctl: OrbctlHarness, tmp_path: Path) -> None:
    network = tmp_path / "10-blue.conflist"
    plugins = [{"type": "spiderpool"}]
    network.write_text(json.dumps({"cniVersion": "1.1.0", "name": "blue", "plugins": plugins}))
    directories = ("--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d"))

    installed = orbctl.orbctl("install", *directories, "--conflist", str(network))
    installed_again = orbctl.orbctl("install", *directories, "--conflist", str(network))
    removed = orbctl.orbctl("install", *directories, "--remove")

    assert [result.code for result in (installed, installed_again, removed)] == [0, 0, 0]
    assert f"{tmp_path}/bin/spiderpool created" in installed.out
    assert f"{tmp_path}/net.d/10-blue.conflist unchanged" in installed_again.out
    assert f"{tmp_path}/bin/spiderpool removed" in removed.out
    assert not list((tmp_path / "bin").glob("spiderpool"))


def test_the_error_names_a_conflist_that_is_not_json(orbctl: OrbctlHarness, tmp_path: Path) -> None:
    network = tmp_path / "10-blue.conflist"
    network.write_text("{")

    result = orbctl.orbctl("install", "--bin-dir", str(tmp_path), "--conflist", str(network))

    assert result.code == Exit.USAGE
    assert "10-blue.conflist" in result.err


@pytest.mark.parametrize(
    "typed", [["apply", "-f", "{changed}"], ["retire", "pool", "blue"], ["delete", "pool", "blue"]]
)
def test_a_change_prints_a_warning_if_a_custom_resource_defines_the_object(
    orbctl: OrbctlHarness, tmp_path: Path, typed: list[str]
) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(BLUE.format(annotations="{team: shop}"))
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(BLUE.format(annotations="{orbweaver.io/kubernetes-uid: uid-1}"))
    assert orbctl.orbctl("apply", "-f", str(manifest)).err == ""

    result = orbctl.orbctl(*(word.format(changed=changed) for word in typed))

    assert result.code == 0
    assert "spiderippool/blue is made from a custom resource" in result.err
    assert "kubectl" in result.err


def test_a_change_prints_no_warning_if_orbctl_made_the_object(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(BLUE.format(annotations="{team: shop}"))
    orbctl.orbctl("apply", "-f", str(manifest))

    assert orbctl.orbctl("retire", "pool", "blue").err == ""


def test_the_replay_of_a_truncated_export_reports_a_difference(
    orbctl: OrbctlHarness, tmp_path: Path
) -> None:
    orbctl.orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / "pools.yaml"))
    file = tmp_path / "log"
    assert orbctl.orbctl("export", str(file), "--raw").code == 0
    assert orbctl.orbctl("replay", str(file)).code == 0
    file.write_bytes(file.read_bytes()[:-9])

    replayed = orbctl.orbctl("replay", str(file))

    assert replayed.code == Exit.DIFFERENT
    assert "its end is missing" in replayed.err


def test_an_export_to_a_dash_goes_to_standard_output(
    orbctl: OrbctlHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    orbctl.orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / "pools.yaml"))

    # pools.yaml has three objects, so the log has three events.
    assert len(orbctl.orbctl("export", "-").out.splitlines()) == 3
    assert not Path("-").exists()


def test_the_error_names_an_archive_directory_that_does_not_exist(orbctl: OrbctlHarness) -> None:
    orbctl.orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / "pools.yaml"))
    assert orbctl.orbctl("archive").code == 0

    for command in (("history", "blue"), ("as-of", "1"), ("verify",)):
        result = orbctl.orbctl("--archive-dir", "/nonexistent/archive", *command)
        assert result.code != 0
        assert "/nonexistent/archive" in result.shown
