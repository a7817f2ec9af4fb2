"""The commands and global options of orbctl."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import typer

import core
from core.process.environment import CLUSTER_OPTIONS, CLUSTER_VARIABLES
from ops.cli.command_group import CommandGroup, LazyCommand
from ops.cli.formats import TABLE_OUTPUT, complete_output, parse_output
from ops.cli.global_options import Globals, ProcessContext

HELP: Final = """Show, change and audit the addresses of a cluster.

Every allocation is an event in etcd.

Global options may be anywhere on the line. With --etcd, orbctl connects to etcd itself. As the
kubectl plugin, or with --context, --kubeconfig or --system-namespace, it runs in a controller's Pod
through `kubectl exec`; commands about a node run in the Pod of that node's agent.

Exit codes: 0 done, 1 failed, 2 wrong usage or unreadable input, 3 refused by a rule, 4 not found,
5 etcd unavailable, 6 verify found differences, 7 the outcome of a write is unknown.
"""

_PANELS: Final = {
    "Show": {
        "get": ("get:get", "Show objects in a table or as manifests."),
        "describe": ("describe:describe", "Show one object in detail, with its last events."),
        "explain": ("explain:explain", "Explain which pools serve a Pod, and why others do not."),
        "simulate": ("simulate:simulate", "Show what a change would do, without writing."),
        "forecast": ("forecast:forecast_command", "Show when pools and subnets will be full."),
        "top": ("top:top", "Show pools, rates, refused ADDs and writers, live on a terminal."),
        "status": (
            "status:status_command",
            "Show the state of etcd, writers, log, archive and projector.",
        ),
    },
    "Change": {
        "apply": ("apply:apply", "Create or change objects from manifests."),
        "delete": (
            "delete:delete",
            "Delete objects by kind and name, or the objects of a YAML file.",
        ),
        "release": ("release:release", "Release all addresses of one Pod."),
        "assign": ("assign:assign", "Assign the listed addresses to a Pod: all of them, or none."),
        "gc": ("gc:gc", "Release leaked addresses; show why others are kept."),
        "import": ("import_command:app", "Import pools and addresses from another IPAM."),
        "migrate": ("migrate:app", "Prepare a migration from Spiderpool."),
        "retire": ("retire:app", "Delete pools and subnets once they are empty."),
        "quarantine": (
            "quarantine:app",
            "Exclude from allocation the addresses that other hosts use.",
        ),
    },
    "Audit": {
        "console": ("console:console", "Serve the console for a browser on this machine."),
        "events": ("events:events_command", "Show events of the log, one on each line."),
        "history": ("history:history_command", "Show all events of an address or an object."),
        "as-of": ("as_of:as_of", "Show objects as they were at a time or log position."),
        "diff": (
            "diff:diff",
            "Show which objects and addresses differ between two times.",
        ),
        "verify": ("verify:verify", "Check log, archive and state keys against each other."),
        "export": ("log:export", "Write the log to a file, as JSON lines or raw."),
        "replay": ("log:replay", "Replay a raw export without etcd, and check every rule."),
    },
    "System": {
        "archive": ("archive:app", "Archive the live log now; show or shorten the archive."),
        "workflow": ("workflow:app", "Show, signal, query, cancel or reset workflow executions."),
        "schedule": (
            "schedule:app",
            "Show, create, pause, trigger or delete schedules of workflows.",
        ),
        "node": ("node:app", "Check or clean a node."),
        "trace-path": ("trace_path:trace_path", "Show rules and routes of a Pod's packets."),
        "nad": ("nad:nad", "Print the NetworkAttachmentDefinitions of SpiderMultusConfigs."),
        "install": ("install:install", "Install the CNI executables on this node."),
        "crds": ("crds:crds", "Print the CustomResourceDefinitions."),
        "completion": ("program:completion", "Print the completion script of a shell."),
        "help": ("program:help_", "Show the help of orbctl or of one command."),
        "version": ("program:version", "Show the versions of program and formats."),
    },
}
"""Panel -> command -> (``module:function``, first line of the help)."""


class OrbctlCommands(CommandGroup):
    """The commands of orbctl."""

    lazy_commands: ClassVar = {
        name: LazyCommand(f"ops.cli.commands.{target}", panel, summary)
        for panel, commands in _PANELS.items()
        for name, (target, summary) in commands.items()
    }


app = typer.Typer(
    cls=OrbctlCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=HELP,
)


def _cluster_option(setting: str, text: str, default: str = "") -> Any:  # noqa: ANN401  # typer.Option returns Any
    option, variable = CLUSTER_OPTIONS[setting], CLUSTER_VARIABLES[setting]
    return typer.Option(option, envvar=variable, help=text, show_default=default or False)


_ENDPOINTS = _cluster_option(
    "endpoints", "endpoints of etcd, host:port, separated by commas", "127.0.0.1:2379"
)
_CLUSTER = _cluster_option("cluster", "name of the cluster in etcd", "default")
_CA = _cluster_option("ca_file", "file with etcd's CA certificate")
_CERTIFICATE = _cluster_option("cert_file", "file with the client certificate")
_KEY = _cluster_option("key_file", "file with the client's private key")
_USER = _cluster_option("user", "user of etcd")
_PASSWORD = _cluster_option("password_file", "file with the password")
_ARCHIVE = _cluster_option("archive", "directory of the archive")
_OUTPUT = typer.Option(
    "-o",
    "--output",
    help="table, wide, csv, name, json, yaml, jsonpath=... or custom-columns=...",
    autocompletion=complete_output,
    show_default="table",
)
_CONTEXT = typer.Option("--context", help="context of the cluster, for a run through kubectl")
_KUBECONFIG = typer.Option("--kubeconfig", help="kubeconfig, for a run through kubectl")
_NAMESPACE = typer.Option(
    "--system-namespace", help="namespace of the controllers, for a run through kubectl"
)


def _print_version(value: bool) -> None:
    if value:
        print(f"orbctl {core.__version__}")
        raise typer.Exit


_VERSION = typer.Option(
    "--version", callback=_print_version, is_eager=True, help="print the version and exit"
)


@app.callback()
def options(
    context: typer.Context,
    *,
    endpoints: Annotated[str | None, _ENDPOINTS] = None,
    cluster: Annotated[str | None, _CLUSTER] = None,
    output: Annotated[str | None, _OUTPUT] = None,
    ca_file: Annotated[str | None, _CA] = None,
    cert_file: Annotated[str | None, _CERTIFICATE] = None,
    key_file: Annotated[str | None, _KEY] = None,
    user: Annotated[str | None, _USER] = None,
    password_file: Annotated[str | None, _PASSWORD] = None,
    archive: Annotated[str | None, _ARCHIVE] = None,
    kube_context: Annotated[str | None, _CONTEXT] = None,
    kubeconfig: Annotated[str | None, _KUBECONFIG] = None,
    system_namespace: Annotated[str | None, _NAMESPACE] = None,
    version: Annotated[bool, _VERSION] = False,
) -> None:
    """Store the global options for the command."""
    del kube_context, kubeconfig, system_namespace, version  # handled before a command runs
    values = {
        "endpoints": endpoints,
        "cluster": cluster,
        "ca_file": ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "user": user,
        "password_file": password_file,
        "archive": archive,
    }
    process = context.obj if isinstance(context.obj, ProcessContext) else ProcessContext()
    settings = {name: value for name, value in values.items() if value is not None}
    context.obj = Globals(settings, parse_output(output) if output else TABLE_OUTPUT, process)
