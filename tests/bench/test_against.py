"""``bench/against.sh`` compares Orbweaver with another IPAM plugin."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import against
from bench.against import app
from bench.rig.daemon import PROJECT_ROOT
from bench.rig.lab import Lab
from bench.rig.sides import Side, SideFailed
from bench.scale import FULL_SCALE

PROGRAM = PROJECT_ROOT / "bench" / "against.sh"
PLUGIN = """#!/bin/sh
room=$(sed 's/.*"room": "\\([^"]*\\)".*/\\1/')
echo "$room" >"$CNI_PATH/room"
test -e "$room/started" || exit 1
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}'
"""
"""An IPAM plugin that fails until the file ``started`` exists in the comparison's work directory.
The comparison replaces ``@ROOM@`` in a configuration by this directory."""


def _run_comparison(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *map(str, arguments)]
    environment = os.environ | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _conf(directory: Path, **ipam: str) -> Path:
    path = directory / "conf.json"
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "lan", "ipam": ipam}))
    return path


def test_the_usage_names_every_option() -> None:
    completed = _run_comparison("--help", COLUMNS="200")

    assert completed.returncode == 0
    for option in ("--cni-path", "--start", "--calls", "--callers", "--turns", "--json", "@ROOM@"):
        assert option in completed.stdout


@pytest.mark.parametrize(
    ("arguments", "error_part"),
    [
        ([], "conf"),
        (["nowhere.json"], "nowhere.json"),
        (["text"], "not JSON"),
        (["none.json"], "ipam.type"),
        (["conf.json"], "no executable 'rival' in CNI_PATH (/nowhere)"),
        (["conf.json", "--callers", "8,x"], "--callers '8,x'"),
        (["conf.json", "--calls", "0"], "--calls"),
    ],
)
def test_the_comparison_rejects_bad_arguments_before_any_output(
    tmp_path: Path, arguments: Sequence[str], error_part: str
) -> None:
    _conf(tmp_path, type="rival")
    (tmp_path / "text").write_text("no JSON")
    (tmp_path / "none.json").write_text("{}")
    conf_and_options = [
        tmp_path / argument if number == 0 else argument
        for number, argument in enumerate(arguments)
    ]

    completed = CliRunner().invoke(
        app, list(map(str, conf_and_options)), env={"CNI_PATH": "/nowhere", "COLUMNS": "200"}
    )

    assert completed.exit_code == 2
    assert error_part in completed.stderr
    assert not completed.stdout


@pytest.mark.etcd
@pytest.mark.netns
@pytest.mark.slow
def test_both_plugins_get_the_same_calls_and_the_comparison_cleans_up(tmp_path: Path) -> None:
    plugin = tmp_path / "rival"
    plugin.write_text(PLUGIN)
    plugin.chmod(0o755)
    figures, pid = tmp_path / "figures.json", tmp_path / "pid"
    start = f'echo $$ >{pid}; touch "$ROOM/started"; exec sleep 600'
    sizes = ("--calls", "6", "--callers", "1,3", "--turns", "1", "--json", figures)
    conf = _conf(tmp_path, type="rival", room="@ROOM@")

    # This KUBEBUILDER_ASSETS has no kube-apiserver, so no API server is started.
    completed = _run_comparison(
        conf, "--start", start, *sizes, CNI_PATH=str(tmp_path), KUBEBUILDER_ASSETS=str(tmp_path)
    )

    assert completed.returncode == 0, completed.stderr
    cells = json.loads(figures.read_text())["cells"]
    assert {(cell["side"], cell["verb"], cell["callers"], cell["calls"]) for cell in cells} == {
        (side, verb, callers, 6)
        for side in ("orbweaver", "rival")
        for verb in ("ADD", "DEL")
        for callers in (1, 3)
    }
    assert not any(cell["failures"] for cell in cells)
    work_directory = Path((tmp_path / "room").read_text().strip())
    assert not work_directory.parent.exists()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_plugin_whose_adds_fail_is_given_up_after_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    plugin = tmp_path / "rival"
    plugin.write_text(f"#!/bin/sh\necho >>{calls}; echo no address; exit 1\n")
    plugin.chmod(0o755)
    conf = _conf(tmp_path, type="rival")
    side = Side("rival", str(plugin), conf, {}, tmp_path, None, lambda: 0.0, may_be_starting=True)
    monkeypatch.setattr(against, "READY_S_MAX", 0.3)
    monkeypatch.setattr(against, "RETRY_S", 0.2)

    with Lab(FULL_SCALE) as lab, pytest.raises(SideFailed, match="rival: its ADD fails"):
        against._wait_ready(lab, side)

    assert len(calls.read_text().splitlines()) < against.PROBES_MAX / 10


@pytest.mark.etcd
@pytest.mark.netns
def test_the_comparison_fails_and_prints_the_error_of_the_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "rival"
    plugin.write_text("#!/bin/sh\necho no address; exit 1\n")
    plugin.chmod(0o755)

    completed = _run_comparison(
        _conf(tmp_path, type="rival"), CNI_PATH=str(tmp_path), KUBEBUILDER_ASSETS=str(tmp_path)
    )

    assert completed.returncode == 1
    assert "rival: its ADD fails: no address" in completed.stderr
