"""``orbctl`` as a process: help, completion, errors, and a session on a real etcd."""

from __future__ import annotations

import json
import os
import pty
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import core
from ops.cli import spiderpoolctl
from ops.cli.command_group import CommandGroup
from ops.cli.command_line import program_of
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from ops.cli.orbctl_application import OrbctlCommands, app
from tests.support.etcd import EtcdCluster, free_ports
from tests.workflows.testing.test_the_tutorial import code_blocks
from workflows.api.definitions import DEFINITION_ATTRIBUTE
from workflows.jobs import job_host

TRANSCRIPT_FOLDER = Path(__file__).parent / "transcripts"
TERMINAL_BYTES = 1 << 16
PROGRAM = [sys.executable, "-m", "ops.cli.main"]
SLOW_MODULES = (
    "grpc",
    "rich",
    "yaml",
    "msgspec",
    "tenacity",
    "prometheus_client",
    "core.eventstore.etcd",
)


def orbctl(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    ignored = {name for name in os.environ if name.startswith("ORBWEAVER_")}
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    return subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_no_slow_module() -> None:
    code = f"""
import sys
from ops.cli.orbctl_application import app
from ops.cli.command_group import CommandGroup
from ops.cli.command_line import program_of
import ops.cli.main
program_of(app)
print([name for name in {SLOW_MODULES!r} if name in sys.modules])
"""
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert completed.stdout.strip() == "[]"


def test_help_names_commands_and_exit_codes() -> None:
    completed = orbctl("--help", COLUMNS="200")

    assert completed.returncode == 0
    for word in ("apply", "as-of", "explain", "history", "quarantine", "verify", "Exit codes"):
        assert word in completed.stdout


@pytest.mark.parametrize("name", sorted(OrbctlCommands.lazy_commands))
def test_the_summary_of_a_command_is_the_first_line_of_its_help(name: str) -> None:
    command = program_of(app).command(name)

    listed = OrbctlCommands.lazy_commands[name].summary
    assert command.help.strip().splitlines()[0] == listed
    assert command.name == name


def leaf_commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Yield the full name of every command without subcommands, and the command."""
    for name in group.commands:
        command = group.command(name) if isinstance(group, CommandGroup) else group.commands[name]
        words = (*path, name)
        if getattr(command, "commands", None):
            yield from leaf_commands(command, *words)
        else:
            yield " ".join(words), command


COMMANDS = dict(leaf_commands(program_of(app)))


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_the_help_of_every_command_has_valid_examples(words: str) -> None:
    _, heading, text = COMMANDS[words].help.partition("Examples:\n")
    assert heading, f"orbctl {words} has no examples"

    for line in filter(None, map(str.strip, text.splitlines())):
        orbctl_line = line.replace("kubectl orb ", "orbctl ")
        typed = re.split(r" [<>|] ", orbctl_line[orbctl_line.index("orbctl ") :].rstrip(")"))[0]
        program, *arguments = shlex.split(typed)
        context: Any = program_of(app).make_context(program, list(arguments))
        remaining = [*context._protected_args, *context.args]
        while getattr(context.command, "commands", None) and remaining:
            name, command, remaining = context.command.resolve_command(context, remaining)
            context = command.make_context(name, list(remaining), parent=context)
            remaining = [*getattr(context, "_protected_args", []), *context.args]
        # ``orbctl archive`` runs ``orbctl archive seal``.
        assert typed.startswith(f"orbctl {words}".removesuffix(" seal")), line


@pytest.mark.parametrize("words", ["workflow list", "workflow start", "schedule create"])
def test_examples_name_workflow_types_that_controllers_register(words: str) -> None:
    examples = COMMANDS[words].help.partition("Examples:\n")[2]
    named = re.findall(r"(?:--type|workflow start|schedule create \S+) (\S+)", examples)

    registered = {
        getattr(value, DEFINITION_ATTRIBUTE).name
        for value in vars(job_host).values()
        if hasattr(value, DEFINITION_ATTRIBUTE)
    }
    assert named
    assert set(named) <= registered


def test_the_example_of_an_update_names_an_update_of_the_tutorial(tmp_path: Path) -> None:
    program = tmp_path / "orders.py"
    program.write_text(code_blocks("python"), "utf-8")
    order = getattr(runpy.run_path(str(program))["Order"], DEFINITION_ATTRIBUTE)
    examples = COMMANDS["workflow update"].help.partition("Examples:\n")[2]

    (named,) = re.findall(rf"workflow update {order.name}/\S+ (\S+)", examples)

    assert named in order.updates


def test_no_command_defines_an_option_twice() -> None:
    for name in OrbctlCommands.lazy_commands:
        options = [opt for param in program_of(app).command(name).params for opt in param.opts]
        assert len(options) == len(set(options)), name


@pytest.mark.parametrize(
    ("typed", "usage"),
    [([], "get"), (["get"], "orbctl get"), (["workflow", "list"], "workflow list")],
)
def test_the_command_help_prints_the_same_text_as_the_option_help(
    typed: list[str], usage: str
) -> None:
    helped = orbctl("help", *typed)

    assert helped.stdout == orbctl(*typed, "--help").stdout
    assert usage in helped.stdout


def test_help_for_an_unknown_command_fails_with_not_found() -> None:
    helped = orbctl("help", "workflow", "nonsense")

    assert helped.returncode == Exit.NOT_FOUND
    assert "nonsense" in helped.stderr


def test_the_option_version_prints_the_version() -> None:
    assert orbctl("--version").stdout == f"orbctl {core.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(shell: str) -> None:
    script = orbctl("completion", shell).stdout

    assert "_ORBCTL_COMPLETE" in script
    assert f"complete_{shell}" in script


def test_the_shell_completes_kinds() -> None:
    completed = orbctl(
        _ORBCTL_COMPLETE="complete_bash", COMP_WORDS="orbctl get spiderip", COMP_CWORD="2"
    )

    assert completed.stdout.split() == ["spiderippool", "spiderippools"]


def test_the_usage_of_the_kubectl_plugin_begins_with_kubectl_orb(tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-orb"
    plugin.write_text("import ops.cli.main; ops.cli.main.main()")

    completed = subprocess.run(
        [sys.executable, str(plugin), "get", "--help"],
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Usage: kubectl orb get" in completed.stdout


def test_spiderpoolctl_writes_its_own_reference(tmp_path: Path) -> None:
    arguments = ["generate-markdown", "--markdown-path", str(tmp_path)]

    code = spiderpoolctl.run(arguments, ProcessContext())

    text = (tmp_path / "spiderpoolctl.md").read_text()
    assert code == Exit.OK
    for command in ("gc", "ip show", "ip release", "ip set"):
        assert f"`spiderpoolctl {command}`" in text
    assert spiderpoolctl.run(arguments[:1], ProcessContext()) == Exit.USAGE


def test_the_error_without_etcd_names_the_endpoint_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ops.cli.session.READ_S_MAX", 0.3)
    (port,) = free_ports(1)

    code = run(["get", "pools", "--etcd", f"127.0.0.1:{port}"], ProcessContext())

    captured = capsys.readouterr()
    assert code == Exit.UNAVAILABLE
    assert captured.out == ""
    assert f"127.0.0.1:{port}" in captured.err
    assert "→" in captured.err


@pytest.mark.parametrize(
    ("options", "variables", "name"),
    [
        (["--cluster", "a/b"], {}, "--cluster"),
        ([], {"ORBWEAVER_CLUSTER": "a/b"}, "ORBWEAVER_CLUSTER"),
        (["--cluster", "a/b"], {"ORBWEAVER_CLUSTER": "lab"}, "--cluster"),
    ],
)
def test_the_error_names_the_option_or_variable_with_a_wrong_cluster(
    options: list[str],
    variables: dict[str, str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    code = run(["get", "pools", *options], ProcessContext())

    assert code == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"error: {name} 'a/b' is not a name")


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("install --conflist", "no-such-file"),
        (
            "get pools --etcd-user reader --etcd-password-file",
            "the password file no-such-file",
        ),
    ],
    ids=["conflist", "password"],
)
def test_the_error_names_an_unreadable_file_without_an_errno(
    line: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*line.split(), "no-such-file"], ProcessContext())

    message = capsys.readouterr().err.splitlines()[0]

    assert code == Exit.USAGE
    assert message == f"error: cannot read {file}: No such file or directory"


@pytest.mark.etcd
def test_names_are_completed_and_watches_print_changes(etcd: EtcdCluster) -> None:
    variables = {"ORBWEAVER_ETCD_ENDPOINTS": etcd.endpoints[0], "ORBWEAVER_CLUSTER": "completing"}
    pools = (TRANSCRIPT_FOLDER / "pools.yaml").read_text()
    assert orbctl("apply", "-f", "-", stdin=pools, **variables).returncode == 0

    def completions_of(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return orbctl(_ORBCTL_COMPLETE="complete_bash", **words, **variables).stdout.split()

    assert completions_of("orbctl get pool b") == ["blue"]
    assert completions_of("orbctl get pool/") == ["pool/blue", "pool/six"]
    assert completions_of("orbctl describe pool ") == ["blue", "six"]
    assert completions_of("orbctl get pools,reserv") == [
        *("pools,reservation", "pools,reservations", "pools,reserved"),
        *("pools,reservedip", "pools,reservedips"),
    ]

    watching = [
        subprocess.Popen(
            [*PROGRAM, *arguments, "-o", "name"],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in (["get", "reservations", "--watch"], ["events", "--follow"])
    ]
    getting, following = (process.stdout for process in watching)
    assert getting is not None
    assert following is not None
    with ExitStack() as stack:
        for process in watching:
            stack.enter_context(process)
            stack.callback(process.kill)
        assert getting.readline().endswith("/printers\n")
        past = [following.readline() for _ in range(3)]
        assert past == ["pool/blue\n", "pool/six\n", "reservation/printers\n"]
        manifest = (
            "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderReservedIP\n"
            "metadata: {name: late}\nspec: {ips: [10.9.0.1]}\n"
        )
        assert orbctl("apply", "-f", "-", stdin=manifest, **variables).returncode == 0
        assert getting.readline().endswith("/late\n")
        assert following.readline() == "reservation/late\n"
        for process in watching:
            process.send_signal(signal.SIGINT)
        assert {process.wait(timeout=60) for process in watching} == {Exit.INTERRUPTED}


def test_kubectl_completion_ends_with_a_directive() -> None:
    command = [sys.executable, "-m", "ops.cli.kubectl_completion", "get", "spiderip"]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)

    # ":4" is Cobra's directive against the completion of file names.
    assert completed.stdout.split() == ["spiderippool", "spiderippools", ":4"]


@pytest.mark.etcd
def test_pools_are_applied_archived_exported_and_replayed(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    variables = {
        "ORBWEAVER_ETCD_ENDPOINTS": etcd.endpoints[0],
        "ORBWEAVER_CLUSTER": "program",
        "ORBWEAVER_ARCHIVE_DIR": str(tmp_path / "archive"),
    }
    pools = (TRANSCRIPT_FOLDER / "pools.yaml").read_text()
    raw = tmp_path / "log.raw"

    applied = orbctl("apply", "-f", "-", stdin=pools, **variables)
    assert applied.stdout.splitlines()[0] == "spiderippool/blue created"
    assert orbctl("get", "pools", "-oname", **variables).stdout.split() == [
        "spiderippool.spiderpool.spidernet.io/blue",
        "spiderippool.spiderpool.spidernet.io/six",
    ]
    assert orbctl("archive", **variables).returncode == 0
    assert orbctl("export", "--raw", str(raw), **variables).returncode == 0
    replayed = json.loads(orbctl("replay", str(raw), "-o", "json").stdout)
    # pools.yaml defines two pools and one reservation.
    assert (replayed["events"], replayed["violations"]) == (3, [])


@pytest.mark.parametrize("words", [["get", "--help"], ["explain", "--help"], ["verify", "--help"]])
def test_help_imports_no_etcd_client(words: list[str]) -> None:
    program = (
        "import sys; from ops.cli.global_options import ProcessContext;"
        " from ops.cli.main import run;"
        f"run({words!r}, ProcessContext()); sys.exit('core.eventstore.etcd.client' in sys.modules)"
    )

    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert completed.returncode == 0, completed.stderr
    assert "Usage: orbctl" in completed.stdout


def on_terminal(*arguments: str, **variables: str) -> str:
    """Run orbctl with a terminal as standard error; return the text on the terminal."""
    reader, writer = pty.openpty()
    command, environment = [*PROGRAM, *arguments], os.environ | variables | {"TERM": "xterm"}
    output = b""
    with (
        os.fdopen(reader, "rb", buffering=0) as terminal,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=writer
        ) as running,
    ):
        os.close(writer)
        # Reading fails once no process has the terminal open.
        with suppress(OSError):
            while chunk := terminal.read(TERMINAL_BYTES):
                output += chunk
    assert running.returncode == 0
    return output.decode()


@pytest.mark.etcd
def test_commands_show_progress_only_on_a_terminal(etcd: EtcdCluster, tmp_path: Path) -> None:
    variables = {
        "ORBWEAVER_ETCD_ENDPOINTS": etcd.endpoints[0],
        "ORBWEAVER_CLUSTER": "progress",
        "ORBWEAVER_ARCHIVE_DIR": str(tmp_path / "archive"),
    }
    raw = str(tmp_path / "log.raw")
    assert orbctl("apply", "-f", str(TRANSCRIPT_FOLDER / "pools.yaml"), **variables).returncode == 0
    assert orbctl("export", "--raw", raw, **variables).returncode == 0

    assert orbctl("verify", **variables).stderr == ""
    assert "verify" in on_terminal("verify", **variables)
    assert "replay" in on_terminal("replay", raw, **variables)
    assert "archive" in on_terminal("archive", **variables)
    assert "export" in on_terminal("export", f"{raw}.again", **variables)
    spiderpool_objects = str(TRANSCRIPT_FOLDER / "spiderpool.json")
    importing = ("import", "spiderpool", "-f", spiderpool_objects, "--yes")
    assert "import" in on_terminal(*importing, **variables | {"ORBWEAVER_CLUSTER": "importing"})


def test_kubectl_completion_prints_no_names_or_errors_without_etcd() -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "ops.cli.kubectl_completion", "get", "pool", ""]
    variables = {"ORBWEAVER_ETCD_ENDPOINTS": f"127.0.0.1:{port}"}

    completed = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, check=True
    )

    # ":0" is Cobra's default directive.
    assert (completed.stdout, completed.stderr) == (":0\n", "")
