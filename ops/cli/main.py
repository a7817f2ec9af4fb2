"""The application ``orbctl``: global options, commands, exit codes.

Also runs as the kubectl plugin ``kubectl orb``. Commands are registered with their options only;
what they need is imported when they run, so that help and completion stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from core.errors import OrbweaverError
from core.eventstore.collector import collect_seldom
from ops.cli import remote
from ops.cli.arguments import hoisted, program_of
from ops.cli.commands import (
    apply,
    archive,
    as_of,
    assign,
    crds,
    delete,
    describe,
    explain,
    gc,
    get,
    history,
    import_command,
    install,
    log,
    nad,
    node,
    quarantine,
    release,
    retire,
    simulate,
    status,
    trace_path,
    verify,
    version,
    workflow,
)
from ops.cli.context import Globals
from ops.cli.exits import Exit, report
from ops.cli.output import Format
from ops.cli.session import ProcessContext
from ops.settings import OPTIONS

PLUGIN = "kubectl-orb"

HELP = """See, change and audit the addresses of a cluster. Every allocation is an event in etcd.

Global options may stand anywhere on the line. As the kubectl plugin, or with --context,
--kubeconfig or --system-namespace, it runs beside a controller of that cluster; with --etcd it goes
to etcd itself.

Exit codes: 0 done, 1 failed, 2 usage or unreadable input, 3 refused by a rule, 4 not found,
5 etcd cannot be used, 6 verify found differences, 7 the answer of a write was lost.
"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
)
_LOOK, _CHANGE, _AUDIT, _SYSTEM = "Look", "Change", "Audit", "System"
_COMMANDS = (
    (get.get, _LOOK),
    (describe.describe, _LOOK),
    (explain.explain, _LOOK),
    (simulate.simulate, _LOOK),
    (status.status, _LOOK),
    (apply.apply, _CHANGE),
    (delete.delete, _CHANGE),
    (release.release, _CHANGE),
    (assign.assign, _CHANGE),
    (gc.gc, _CHANGE),
    (history.history, _AUDIT),
    (as_of.as_of, _AUDIT),
    (verify.verify, _AUDIT),
    (log.export, _AUDIT),
    (log.replay, _AUDIT),
    (trace_path.trace_path, _SYSTEM),
    (nad.nad, _SYSTEM),
    (install.install, _SYSTEM),
    (crds.crds, _SYSTEM),
    (version.version, _SYSTEM),
)
for _command, _panel in _COMMANDS:
    app.command(rich_help_panel=_panel)(_command)
app.add_typer(import_command.app, name="import", rich_help_panel=_CHANGE)
app.add_typer(retire.app, name="retire", rich_help_panel=_CHANGE)
app.add_typer(quarantine.app, name="quarantine", rich_help_panel=_CHANGE)
app.add_typer(archive.app, name="archive", rich_help_panel=_SYSTEM)
app.add_typer(workflow.app, name="workflow", rich_help_panel=_SYSTEM)
app.add_typer(node.app, name="node", rich_help_panel=_SYSTEM)


@app.callback()
def options(
    context: typer.Context,
    *,
    etcd: Annotated[
        str, typer.Option(envvar=OPTIONS["etcd"], help="host:port of etcd, by commas")
    ] = "127.0.0.1:2379",
    cluster: Annotated[
        str, typer.Option(envvar=OPTIONS["cluster"], help="name of the cluster in etcd")
    ] = "default",
    output: Annotated[Format, typer.Option("-o", "--output", help="form of the answer")] = (
        Format.TABLE
    ),
    etcd_ca: Annotated[str, typer.Option(envvar=OPTIONS["ca_file"], help="CA file")] = "",
    etcd_cert: Annotated[
        str, typer.Option(envvar=OPTIONS["cert_file"], help="our certificate")
    ] = "",
    etcd_key: Annotated[str, typer.Option(envvar=OPTIONS["key_file"], help="its key")] = "",
    etcd_user: Annotated[str, typer.Option(envvar=OPTIONS["user"], help="etcd user")] = "",
    etcd_password_file: Annotated[
        str, typer.Option(envvar=OPTIONS["password_file"], help="file with its password")
    ] = "",
    archive_dir: Annotated[
        str, typer.Option(envvar=OPTIONS["archive"], help="directory of archive files")
    ] = "",
) -> None:
    """Read the global options (HELP is what people see)."""
    said = {
        "etcd": etcd,
        "ca_file": etcd_ca,
        "cert_file": etcd_cert,
        "key_file": etcd_key,
        "user": etcd_user,
        "password_file": etcd_password_file,
        "cluster": cluster,
        "archive": archive_dir,
    }
    surroundings = context.obj if isinstance(context.obj, ProcessContext) else ProcessContext()
    context.obj = Globals(said, output, surroundings)


def run(
    arguments: Sequence[str],
    surroundings: ProcessContext,
    program: str = "orbctl",
    application: typer.Typer = app,
) -> int:
    """One run of the program; its exit code."""
    command = program_of(application)
    try:
        command.main(
            args=hoisted(arguments, command),
            prog_name=program,
            obj=surroundings,
            standalone_mode=True,
        )
    except OrbweaverError as error:
        return report(error)
    except OSError as error:
        return report(OrbweaverError(str(error)))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.FAILED
    return Exit.OK


def main() -> None:
    """Entry point of the console scripts."""
    collect_seldom()
    as_plugin = Path(sys.argv[0]).name == PLUGIN
    arguments, surroundings = sys.argv[1:], ProcessContext()
    if remote.is_remote(arguments, os.environ, as_plugin=as_plugin):
        sys.exit(_remote(arguments, surroundings))
    sys.exit(run(arguments, surroundings, "kubectl orb" if as_plugin else "orbctl"))


def _remote(arguments: Sequence[str], surroundings: ProcessContext) -> int:
    try:
        return remote.run(arguments, surroundings.who())
    except OrbweaverError as error:
        return report(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


if __name__ == "__main__":
    main()
