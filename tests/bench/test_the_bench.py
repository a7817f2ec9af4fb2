"""Options and output format of ``python -m bench``; no test checks a measured value."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bench import plots, reporting
from bench.callers import paced, replacement
from bench.figures import Figure, NotTaken, Target, median_figure, ratio_figure
from bench.measures import kube_controller
from bench.measures.calls import CallFailed
from bench.measures.kube_controller import StatusChange, lags_ms
from bench.rig.daemon import PROJECT_ROOT
from bench.rig.frames import FIRST_NEW_SERIAL, frame, identity, netconf
from bench.rig.lab import Lab
from bench.rig.seeding import all_addresses, exact_pool, many_pools, spread_addresses
from bench.running import MeasureResult, run_measures
from bench.scale import FULL_SCALE, QUICK_SCALE
from bench.table import MEASURES, TARGETS, measures_named, measures_of
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address, parse_cidr
from nodeagent.cni_protocol.cni_call import read_call, read_environment

FIGURES_WITH_TARGET = {
    "alloc_rate_32",
    "alloc_p50_1_ms",
    "alloc_cpu_ms",
    "alloc_rate_of_bare_32",
    "alloc_p50_of_bare_1",
    "alloc_cpu_of_bare",
    "store_batch_ratio",
    "alloc_scale_ratio",
    "contention_failures",
    "contention_duplicates",
    "exec_version_ratio",
    "exec_add_over_socket_ratio",
    "replay_rate",
    "agent_ready_s",
    "agent_rss_mb",
    "agent_rss_1k_pools_mb",
    "retention_scale_ratio",
    "agent_idle_pct",
    "controller_idle_pct",
    "alloc_last_free_ms",
    "alloc_last_free_ratio",
    "alloc_full99_ratio",
    "contention_time_ratio",
    "as_of_1m_ms",
    "console_seek_ms",
    "console_first_paint_ms",
    "history_1m_ms",
    "command_scale_ratio",
    "import_10k_s",
    "wf_rate",
    "wf_rate_of_bare",
    "wf_replay_4000_ms",
    "wf_takeover_s",
    "wf_idle_cpu_pct",
    "reclaim_one_ms",
    "reclaim_10k_s",
    "scan_100k_s",
    "kube_add_rate_8",
    "kube_add_p50_8_ms",
    "kube_add_of_bare_8",
    "kube_add_cpu_ratio",
    "kube_cpu_split_executable",
    "kube_cpu_split_agent",
    "kube_cpu_split_controller",
    "kube_cpu_split_api_server",
    "kube_cpu_split_etcd",
    "kube_del_of_add_1",
    "kube_del_of_add_1_p99",
    "controller_start_10k_s",
    "controller_rss_mb",
    "controller_rss_10k_mb",
    "status_lag_ms",
    "status_writes_s",
    "sim_fanout_s",
    "sim_mass_start_s",
    "sim_mass_start_failures",
    "look_over_window_ms",
    "sriov_plan_ms",
    "devices_ready_s",
    "device_allocate_ms",
    "vf_leaks",
    "look_stranger_ms",
    "coordinator_add_ms",
    "coordinator_del_ms",
    "coordinator_exec_ms",
    "leaks_after_10k",
    "clusterip_connect_ratio",
}
TINY = QUICK_SCALE._replace(name="tiny", rounds=1, adds=64, contending_pods=32)


def test_list_prints_every_figure_that_has_a_target() -> None:
    command = [sys.executable, "-m", "bench", "--list"]

    listed = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert {line.split()[0] for line in listed.splitlines()} >= FIGURES_WITH_TARGET
    assert {name for name, target in TARGETS.items() if target is not None} == FIGURES_WITH_TARGET


def test_the_bench_fails_and_names_an_unknown_measure() -> None:
    command = [sys.executable, "-m", "bench", "--quick", "alloc_rat"]

    completed = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )

    assert completed.returncode == 2
    assert "alloc_rat" in completed.stderr
    assert not completed.stdout


@pytest.mark.etcd
def test_each_figure_is_printed_as_one_json_object_per_line() -> None:
    results = run_measures(TINY, measures_named(["store_batch_ratio", "contention"]))

    lines = [
        json.loads(line) for result in results for line in reporting.lines(result).splitlines()
    ]
    batch, failures, duplicates, _time_ratio = lines
    assert all(set(line) >= {"name", "value", "unit", "reference", "ratio"} for line in lines)
    assert batch["name"] == "store_batch_ratio"
    assert batch["ratio"] == batch["value"] > 0
    assert (failures["name"], failures["value"]) == ("contention_failures", 0)
    assert (duplicates["name"], duplicates["value"]) == ("contention_duplicates", 0)
    assert failures["ratio"] is None


def test_the_next_measure_runs_after_a_failed_measure() -> None:
    def fail(_: Lab) -> list[Figure]:
        raise OSError("no disk")

    def succeed(_: Lab) -> list[Figure]:
        return [Figure("history_1m_ms", 1.0, "ms")]

    broken, sound = measures_named(["replay", "history"])
    measures = [broken._replace(measure=fail), sound._replace(measure=succeed)]

    failed, result = run_measures(TINY, measures)

    assert "no disk" in failed.failure
    assert [figure.name for figure in result.figures] == ["history_1m_ms"]


def test_a_measure_that_raises_not_taken_is_reported_as_not_taken() -> None:
    def raise_not_taken(_: Lab) -> list[Figure]:
        raise NotTaken("no kube-apiserver")

    (measure,) = measures_named(["kube_add"])

    (result,) = run_measures(TINY, [measure._replace(measure=raise_not_taken)])

    document = reporting.document("tiny", {}, [result])
    assert (result.figures, result.failure) == ([], "")
    assert document["not_taken"] == {"kube_add": "no kube-apiserver"}


def test_the_lag_of_an_allocation_ends_at_the_first_status_that_counts_it() -> None:
    answered_at_s = [1.0, 2.0, 3.0]
    changes = [StatusChange(1.5, allocated=1), StatusChange(4.0, allocated=3)]

    assert lags_ms(answered_at_s, changes) == [500.0, 2_000.0, 1_000.0]


async def test_wait_until_counted_fails_if_the_status_counts_too_few_allocations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kube_controller, "SETTLED_S", 0.0)

    with pytest.raises(CallFailed, match="counts 2 of 3 allocations"):
        await kube_controller.wait_until_counted([StatusChange(1.5, allocated=2)], 3)


def test_a_ratio_divides_the_median_by_the_median_of_the_reference() -> None:
    figure = median_figure("agent_ready_s", [3.0, 1.0, 2.0], "s", [1.0, 4.0, 5.0])

    assert (figure.value, figure.reference, figure.ratio) == (2.0, 4.0, 0.5)
    assert figure.spread == (1.0, 3.0)
    assert ratio_figure("store_batch_ratio", [2.0, 3.0, 4.0], "unbatched").ratio == 3.0


def test_a_value_equal_to_the_bound_meets_the_target() -> None:
    assert Target("at least", 3_000).is_met_by(3_000)
    assert not Target("at least", 3_000).is_met_by(2_999)
    assert Target("at most", 0).is_met_by(0)
    assert not Target("at most", 0).is_met_by(1)


def test_one_round_runs_when_the_time_budget_is_used_up() -> None:
    with Lab(QUICK_SCALE) as lab:
        lab.set_time_budget(-1.0)
        late_rounds = list(lab.rounds())
        lab.set_time_budget(3_600.0)
        timely_rounds = list(lab.rounds())

    assert late_rounds == [0]
    assert timely_rounds == list(range(QUICK_SCALE.rounds))


def test_seeded_addresses_are_distinct_and_inside_their_pools() -> None:
    pools = many_pools(7)
    addresses = list(spread_addresses(pools, 700))

    assert len({seeded.address for seeded in addresses}) == 700
    for pool in pools:
        pool_addresses = AddressSet.from_items(pool.ips, pool.family)
        values = [
            parse_address(seeded.address).value for seeded in addresses if seeded.pool == pool
        ]
        assert len(values) == 700 // len(pools)
        assert all(value in pool_addresses for value in values)
        assert pool_addresses.issubset(AddressSet.from_cidr(parse_cidr(pool.subnet)))


@pytest.mark.parametrize("size", [1, 512, 65_533])
def test_an_exact_pool_has_the_requested_number_of_addresses(size: int) -> None:
    pool = exact_pool("exact", size)

    assert AddressSet.from_items(pool.ips, 4).size == size == len(list(all_addresses(pool)))
    assert AddressSet.from_items(pool.ips, 4).issubset(
        AddressSet.from_cidr(parse_cidr(pool.subnet))
    )


def test_the_agent_decodes_the_frames_of_the_bench() -> None:
    request = frame("ADD", FIRST_NEW_SERIAL, netconf(["pool-0000"]))

    environment, _, stdin = request[8:].partition(b"\0\0")
    call = read_call(*read_environment(environment), stdin)

    assert call.pod.uid == identity(FIRST_NEW_SERIAL).uid
    assert call.attachment.container == identity(FIRST_NEW_SERIAL).container
    assert call.conf.ipam.default_ipv4_ippool == ("pool-0000",)


def test_a_quick_run_omits_three_slow_measures() -> None:
    quick, full = (
        {measure.name for measure in measures_of(scale)} for scale in (QUICK_SCALE, FULL_SCALE)
    )

    assert full - quick == {"percentiles", "console", "vf_cycles"}


def test_many_samples_are_written_as_percentiles() -> None:
    samples = [number / 100 for number in range(10_000)]
    figure = median_figure("add_last_32_ms", samples, "ms")
    (measure,) = measures_named(["percentiles"])

    result = MeasureResult(measure, [figure], 1.0, "")
    (written,) = reporting.document("full", {}, [result])["figures"]

    assert written["percentiles"] == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
    assert written["calls"] == 10_000
    assert "samples" not in written
    assert reporting.percentile_table([figure]).row_count == 1


def test_a_caller_deletes_its_oldest_pod_before_each_add(tmp_path: Path) -> None:
    path, calls = tmp_path / "s", list[str]()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for _ in range(6):
            with listener.accept()[0] as caller:
                calls.append(re.findall(rb"CNI_COMMAND=(\w+)", caller.recv(65_536))[0].decode())
                caller.sendall(b"\0" + bytes(4))

    server = threading.Thread(target=serve)
    server.start()
    parameters = {"socket": str(path), "callers": 1, "existing": [1, 2], "first": 7, "count": 3}

    report = replacement.call(parameters | {"netconf": "{}"})

    server.join()
    listener.close()
    assert calls == ["DEL", "ADD"] * 3
    assert report["existing"] == [8, 9]  # added: 7, 8, 9; deleted: 1, 2, 7
    assert (len(report["add_ms"]), len(report["del_ms"]), report["failures"]) == (3, 3, [])


def test_the_failure_of_a_paced_add_is_the_text_of_its_answer(tmp_path: Path) -> None:
    path, text = tmp_path / "s", b"no address is free"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener.accept()[0] as caller:
            caller.recv(65_536)
            caller.sendall(b"\1" + len(text).to_bytes(4, "big") + text)

    server = threading.Thread(target=serve)
    server.start()

    report = paced.call(
        {"socket": str(path), "first": 1, "count": 1, "rate": 100.0, "netconf": "{}"}
    )

    server.join()
    listener.close()
    assert report["failures"] == ["no address is free"]


def test_each_selection_of_measures_has_its_own_file_with_a_short_name(tmp_path: Path) -> None:
    names = [measure.name for measure in MEASURES]
    selections = [[], names[:1], names[:-1], names[1:], names]

    paths = {
        reporting.write(tmp_path, {}, reporting.run_name("quick", selection))
        for selection in selections
    }

    assert len(paths) == len(selections)
    assert {"quick.json", f"quick-{names[0]}.json"} <= {path.name for path in paths}


def test_figures_of_different_measures_are_written_as_png_plots(tmp_path: Path) -> None:
    names = ("contention_failures", "replay_state_rate", "agent_ready_s", "add_full99_8_ms")
    figures = [median_figure(name, [0.0, 0.5, 0.6], "s") for name in names]

    paths = plots.write(tmp_path, figures)

    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
