"""``spiderpoolctl``: orbctl commands under Spiderpool's names (docs/reference/spiderpoolctl.md)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.cli import get_docs_for_click

from core.process.python_garbage_collector import prepare_short_run
from ops.cli import main as orbctl
from ops.cli.command_group import CommandGroup
from ops.cli.commands import assign, describe, gc, get, release
from ops.cli.global_options import ProcessContext
from ops.cli.orbctl_application import options

PROGRAM = "spiderpoolctl"
REASON = "spiderpoolctl ip release"

app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Show and change addresses by Spiderpool's command names; orbctl has more commands.",
)
ip = typer.Typer(no_args_is_help=True, help="Show, release or set an address.")
app.callback()(options)
app.add_typer(ip, name="ip")

Address = Annotated[str, typer.Option("--ip", help="the address")]


@app.command(name="gc")
def gc_(
    context: typer.Context,
    address: Annotated[  # noqa: ARG001  # an option of Spiderpool's program
        str, typer.Option("--address", help="ignored: orbctl reads etcd itself")
    ] = "",
) -> None:
    """Release leaked addresses, each with its evidence."""
    gc.gc(context, yes=True)


@app.command()
def generate_markdown(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Option("--markdown-path", help="a directory", file_okay=False, exists=True)
    ],
) -> None:
    """Write the reference of this program."""
    program = context.find_root().command
    text = get_docs_for_click(obj=program, ctx=context, name=PROGRAM)
    (directory / f"{PROGRAM}.md").write_text(text)


@ip.command()
def show(context: typer.Context, address: Address = "") -> None:
    """Show the holder of the address, or of all claimed addresses."""
    if address:
        describe.describe(context, "address", address)
    else:
        get.get(context, ["endpoints"], all_namespaces=True)


@ip.command(name="release")
def release_(
    context: typer.Context,
    address: Address,
    force: Annotated[bool, typer.Option("-f", "--force", help="skip the confirmation")] = False,
) -> None:
    """Release all addresses of the Pod that holds this address."""
    release.release(context, address, REASON, yes=force)


@ip.command(name="set")
def set_(
    context: typer.Context,
    address: Address,
    pod: Annotated[str, typer.Option("--pod", help="name of the Pod")],
    namespace: Annotated[str, typer.Option("--namespace", help="namespace of the Pod")],
    containerid: Annotated[str, typer.Option("--containerid", help="id of the Pod's sandbox")],
    node: Annotated[str, typer.Option("--node", help="node of the Pod")],
    interface: Annotated[str, typer.Option("--interface", help="name of the NIC")],
) -> None:
    """Assign the address to a Pod."""
    assign.assign(context, [address], pod, node, containerid, interface, namespace=namespace)


def run(arguments: Sequence[str], process: ProcessContext) -> int:
    """Run the program once; return its exit code."""
    return orbctl.run(arguments, process, PROGRAM, app)


def main() -> None:
    """Entry point of the console script."""
    prepare_short_run()
    sys.exit(run(sys.argv[1:], ProcessContext()))


if __name__ == "__main__":
    main()
