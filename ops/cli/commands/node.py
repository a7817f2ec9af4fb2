"""``orbctl node``: the node it runs on. No etcd is needed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.errors import BadInput
from nodeagent.clusterip.installation import remove
from nodeagent.coordinator.host_rules import remove_host_rules
from nodeagent.coordinator.settings import BUILT_IN
from nodeagent.netlink.session import NetlinkSession
from nodeagent.settings.values import SOCKET_PATH
from ops.cli.commands.install import BIN_DIRECTORY
from ops.cli.exits import Exit
from ops.cli.global_options import globals_of
from ops.cli.output import TableColumn, show_table, show_value
from ops.diagnostics.diagnosis import Diagnosis, diagnose, worst
from ops.diagnostics.examination import Examination, examine
from ops.diagnostics.nics import Gateway, MasterNic
from ops.installer import remove_runtime_files, uninstall

app = typer.Typer(no_args_is_help=True, help="Check this node, or clean it.")

_COLUMNS: Final = (
    TableColumn("CHECK"),
    TableColumn("VERDICT"),
    TableColumn("FOUND"),
    TableColumn("WHAT TO DO"),
)
GATEWAYS_MAX: Final = 64
HOST_TABLE: Final = BUILT_IN.host_rule_table or 0
BPF_FILESYSTEM: Final = Path("/sys/fs/bpf")

Gateways = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway",
        help="interface=address of a gateway to probe, besides those of the default routes",
    ),
]


@app.command()
def doctor(context: typer.Context, gateway: Gateways = None) -> None:
    """Check this node: kernel, sysctls, interfaces, gateways.

    Changes nothing. Requires root. Exits with 1 if a check failed.

    Examples:
      orbctl node doctor
      orbctl node doctor --gateway ens3=10.6.0.1
    """
    if os.geteuid():
        raise BadInput("checking a node requires root", subject="node doctor", remedy="use sudo")
    options = globals_of(context)
    examination = asyncio.run(examine([_gateway(text) for text in _bounded(gateway or [])]))
    diagnoses = diagnose(examination)
    if options.output.is_plain:
        show_value(_plain(examination, diagnoses), options.output)
    else:
        show_table(_COLUMNS, diagnoses)
    raise typer.Exit(Exit.FAILED if worst(diagnoses) == "failed" else Exit.OK)


@app.command()
def clean(
    bin_dir: Annotated[Path, typer.Option(help="where runtimes find executables")] = BIN_DIRECTORY,
    socket: Annotated[Path, typer.Option(help="the agent's socket")] = Path(SOCKET_PATH),
    bpffs: Annotated[Path, typer.Option(help="where agents pin eBPF programs")] = BPF_FILESYSTEM,
    host_table: Annotated[int, typer.Option(help="the table of hostRuleTable")] = HOST_TABLE,
) -> None:
    """Remove what agents installed on this node: executables, sockets, rules, eBPF programs.

    For a node on which no agent runs any more. Files that were changed since their installation
    stay, and so do records of attachments. Pods on networks of Orbweaver cannot be deleted until
    the executables are installed again.

    Examples:
      orbctl node clean
      orbctl node clean --bin-dir /usr/libexec/cni
    """
    changes = [*uninstall(bin_dir), *remove_runtime_files(socket)]
    for change in changes:
        print(f"{change.path} {change.action}")
    if bpffs.is_dir() and remove(bpffs):
        print(f"eBPF programs of {bpffs} detached and removed")
    with NetlinkSession.open() as netlink:
        for rule in remove_host_rules(netlink, host_table):
            print(f"rule {rule} removed")


def _bounded(gateways: list[str]) -> list[str]:
    if len(gateways) > GATEWAYS_MAX:
        raise BadInput(f"more than {GATEWAYS_MAX} gateways", subject="--gateway")
    return gateways


def _gateway(text: str) -> Gateway:
    interface, _, address = text.partition("=")
    try:
        parsed = parse_address(address)
    except AddressSyntaxError as error:
        raise BadInput(
            f"--gateway {text[:80]}: {error}",
            subject="--gateway",
            remedy="write it as interface=address, such as ens3=10.6.0.1",
        ) from None
    return Gateway(interface, str(parsed), parsed.family)


def _nic(nic: MasterNic) -> dict[str, Any]:
    return nic._asdict() | {"addresses": list(nic.addresses), "rdma": list(nic.rdma)}


def _plain(examination: Examination, diagnoses: list[Diagnosis]) -> dict[str, Any]:
    """Everything that was found, for programs."""
    return {
        "kernel": examination.kernel,
        "machine": examination.machine,
        "ipv6": examination.ipv6,
        "missingCapabilities": list(examination.missing_capabilities),
        "abilities": [entry._asdict() for entry in examination.abilities],
        "sysctls": [
            {"key": entry.wanted.key, "wanted": entry.wanted.value, "found": entry.found}
            for entry in examination.sysctls
        ],
        "interfaces": [_nic(nic) for nic in examination.nics],
        "gateways": [
            entry.gateway._asdict() | {"answeredBy": list(entry.macs), "fault": entry.fault}
            for entry in examination.gateways
        ],
        "networkManager": examination.manager._asdict(),
        "diagnoses": [entry._asdict() for entry in diagnoses],
    }
