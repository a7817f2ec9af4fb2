"""The demo runs without a terminal, to its end or until a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import typer

from ops.demo import __main__ as program
from ops.demo.datapath import reach_node, serve
from ops.demo.demo_output import DemoFailed, DemoOutput
from ops.demo.demo_state import PROJECT_ROOT, DemoState, MissingCapability
from ops.demo.steps import DEMO_STEPS
from ops.lab.identity import LabIdentity
from ops.lab.laboratory import Laboratory
from ops.lab.leftovers import LabResources, resources_of
from ops.lab.programs import run

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

DEADLINE_S = 240.0


@contextmanager
def running_demo() -> Iterator[subprocess.Popen[str]]:
    # A background job of a shell ignores SIGINT, and the demo would inherit this setting.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "ops.demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) as demo:
        watchdog = threading.Timer(DEADLINE_S, demo.kill)
        watchdog.start()
        try:
            yield demo
        finally:
            watchdog.cancel()
            demo.kill()


def test_a_step_that_the_kernel_does_not_support_is_skipped_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = MissingCapability(no_reply_marks="no nftables", no_services="no eBPF")
    state = DemoState(DemoOutput(), Laboratory(), missing)
    reach_node(state)
    serve(state)
    output = capsys.readouterr().out
    assert "(Node to Pod is skipped: no nftables)" in output
    assert "(Skipped: no eBPF)" in output


def interfaces_of_this_machine() -> str:
    return run(["ip", "-brief", "link"])


def test_the_demo_shows_every_step_and_leaves_nothing_behind() -> None:
    interfaces_before = interfaces_of_this_machine()
    with running_demo() as demo:
        assert demo.stdout is not None
        output = demo.stdout.read()

    assert demo.wait() == 0, output
    for number in range(1, len(DEMO_STEPS) + 1):
        assert f"\n{number}. " in output
    assert "shop/payments" in output
    assert "web-1" in output.partition("ANSWERED BY")[2].partition("5. ")[0]
    assert "WorkflowExecutionCompleted" in output
    assert "db-0 still belongs to the StatefulSet" in output
    assert "state  equals the log" in output
    assert "the history is shorter than a day" in output.partition("$ orbctl forecast")[2]
    assert "console: http://127.0.0.1:" in output
    assert output.rstrip().endswith("Nothing is left: no process, no namespace, no file.")
    assert "\x1b" not in output, "expected no colours without a terminal"
    assert resources_of(LabIdentity(demo.pid, serial=1)) == LabResources()
    assert interfaces_of_this_machine() == interfaces_before


@pytest.mark.parametrize(
    ("signal_number", "code"),
    [(signal.SIGINT, program.INTERRUPTED), (signal.SIGTERM, program.TERMINATED)],
)
def test_a_demo_that_gets_a_signal_removes_everything(
    signal_number: signal.Signals, code: int
) -> None:
    with running_demo() as demo:
        assert demo.stdout is not None
        while "2. Pools" not in demo.stdout.readline():
            assert demo.poll() is None
        identity = LabIdentity(demo.pid, serial=1)
        resources = resources_of(identity)
        demo.send_signal(signal_number)
        demo.stdout.read()

    assert resources.processes
    assert resources.namespaces
    assert demo.wait() == code
    assert resources_of(identity) == LabResources()


def test_a_failed_step_is_printed_and_ends_the_demo_with_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail_step(state: DemoState) -> NoReturn:
        (tmp_path / "lab").write_text(str(state.laboratory.identity))
        raise DemoFailed("the ping was not answered")

    monkeypatch.setattr(program, "DEMO_STEPS", (fail_step,))

    with pytest.raises(typer.Exit) as exit_:
        program.demo()

    identity = LabIdentity.parse((tmp_path / "lab").read_text())
    assert exit_.value.exit_code == program.FAILED
    assert "the demo failed: the ping was not answered" in capsys.readouterr().out
    assert identity is not None
    assert resources_of(identity) == LabResources()
