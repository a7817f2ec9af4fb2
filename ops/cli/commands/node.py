"""``orbctl node``: checks or cleans this node, or another through kubectl. Needs no etcd."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.sriov.guid_file import GUID_FILE
from core.domain.sriov.vf_plan import NodePlan, plan_node
from core.errors import BadInput
from core.manifests.sriov_policy_parser import node_policies
from core.settings.conf_file import read_conf
from core.settings.shared_settings import CONF_PATH
from nodeagent.clusterip.bpf_installation import remove_pinned_objects
from nodeagent.coordinator.host_rules import remove_host_rules
from nodeagent.coordinator.settings import BUILT_IN
from nodeagent.devices.physical_functions import physical_functions, uplinks
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.netlink.session import NetlinkSession
from nodeagent.settings.agent_settings import SOCKET_PATH
from nodeagent.sriov.node_hardware import read_guid_file, with_netlink_facts
from nodeagent.sriov.vf_links import KernelVfLinks
from ops.cli.commands.install import BIN_DIRECTORY
from ops.cli.exit_codes import Exit
from ops.cli.global_options import globals_of
from ops.cli.input_files import Recursive, read_texts
from ops.cli.output import TableColumn, show_table, show_value
from ops.diagnostics.diagnosis import Diagnosis, diagnose, worst
from ops.diagnostics.examination import Examination, examine
from ops.diagnostics.network_manager import NetworkManagerState
from ops.diagnostics.nics import Gateway, MasterNic
from ops.installer import remove_runtime_files, uninstall

app = typer.Typer(no_args_is_help=True, help="Check or clean a node.")

CHECK_COLUMNS: Final = (
    TableColumn("CHECK"),
    TableColumn("VERDICT"),
    TableColumn("FOUND"),
    TableColumn("WHAT TO DO"),
)
GATEWAYS_MAX: Final = 64

assert BUILT_IN.host_rule_table is not None, "the built-in settings have no host_rule_table"
HOST_TABLE: Final = BUILT_IN.host_rule_table
BPF_FILESYSTEM: Final = Path("/sys/fs/bpf")

Gateways = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway",
        help="interface=address of a gateway to probe, besides the gateways of default routes",
    ),
]


NodeName = Annotated[str, typer.Argument(help="name of a node of the cluster; default: this node")]


@app.command()
def doctor(
    context: typer.Context,
    node: NodeName = "",  # noqa: ARG001  # if NODE is given, ops.cli.remote runs the command there
    gateway: Gateways = None,
) -> None:
    """Check a node: kernel, sysctls, interfaces, RoCE QoS, gateways.

    Changes nothing. Requires root on this node; for NODE it runs in the Pod of that node's agent,
    through kubectl. Exits with 1 if a check failed.

    Examples:
      orbctl node doctor
      kubectl orb node doctor worker-7
      orbctl node doctor --gateway ens3=10.6.0.1
    """
    if os.geteuid():
        raise BadInput("checking a node requires root", subject="node doctor", remedy="use sudo")
    options = globals_of(context)
    examination = asyncio.run(examine([_gateway(text) for text in _require_few(gateway or [])]))
    diagnoses = diagnose(examination)
    if options.output.is_structured:
        show_value(_plain(examination, diagnoses), options.output)
    else:
        show_table(CHECK_COLUMNS, diagnoses, options.output)
    raise typer.Exit(Exit.FAILED if worst(diagnoses) == "failed" else Exit.OK)


@app.command()
def sriov(
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Option(
            "-f", "--filename", help="file or folder of SriovNetworkNodePolicies; - for stdin"
        ),
    ],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="a label of this node, as key=value")
    ] = None,
    recursive: Recursive = False,
) -> None:
    """Show the steps that SriovNetworkNodePolicies need on this node. Changes nothing.

    One line for each step, in order: number of virtual functions, MTU, hardware addresses, trust,
    drivers. Exits with 3 if a step is refused, such as a change of the node's own uplink. Requires
    root if the node has SR-IOV NICs.

    Examples:
      orbctl node sriov -f policies.yaml
      orbctl node sriov -f policies.yaml --label rack=7 -o json
    """
    texts = read_texts(file, recursive=recursive)
    policies = [policy for _, text in texts for policy in node_policies(text)]
    if not policies:
        raise BadInput(
            "the input contains no SriovNetworkNodePolicy",
            subject="filename",
            remedy="pass a file or folder with a SriovNetworkNodePolicy",
        )
    with NetlinkSession.open() as session:
        own_links = uplinks(session)
    nics = physical_functions(own_links)
    if nics and os.geteuid():
        raise BadInput("reading eswitch modes requires root", subject="sriov", remedy="use sudo")
    with closing(NetnsExecutor()) as executor:
        nics = with_netlink_facts(nics, KernelVfLinks(executor))
    guids = read_guid_file(Path(GUID_FILE))
    plan = plan_node(policies, _labels(label or []), nics, guid_file=guids)
    output = globals_of(context).output
    if output.is_structured:
        show_value(_plain_plan(plan), output)
    else:
        for line in (*plan.actions, *plan.refusals):
            print(line)
        for nic in plan.drain:
            print(f"{nic}: Pods use virtual functions that the plan removes; drain the node first")
    raise typer.Exit(Exit.REFUSED if plan.refusals else Exit.OK)


@app.command()
def clean(
    node: NodeName = "",  # noqa: ARG001  # if NODE is given, ops.cli.remote creates a Pod there
    bin_dir: Annotated[Path, typer.Option(help="directory of CNI executables")] = BIN_DIRECTORY,
    socket: Annotated[
        Path | None,
        typer.Option(
            help=f"socket of the agent; default: the socket in conf.yml, or {SOCKET_PATH}"
        ),
    ] = None,
    bpffs: Annotated[
        Path, typer.Option(help="BPF file system where agents pin eBPF programs")
    ] = BPF_FILESYSTEM,
    host_table: Annotated[
        int, typer.Option(help="routing table for Pods, as set by hostRuleTable")
    ] = HOST_TABLE,
) -> None:
    """Remove what agents installed on this node: executables, sockets, rules, eBPF programs.

    For a node without an agent. Files that were changed after their installation are kept, and so
    are records of attachments. Pods on networks of Orbweaver cannot be deleted until the
    executables are installed again. Requires root on this node; for NODE it runs through kubectl,
    in a temporary Pod with the image and the mounts of the agents.

    Examples:
      orbctl node clean
      kubectl orb node clean worker-7
      orbctl node clean --bin-dir /usr/libexec/cni
    """
    path = socket or Path(read_conf(Path(CONF_PATH)).socket_path or SOCKET_PATH)
    changes = [*uninstall(bin_dir), *remove_runtime_files(path)]
    for change in changes:
        print(f"{change.path} {change.action}")
    if bpffs.is_dir() and remove_pinned_objects(bpffs):
        print(f"eBPF programs of {bpffs} detached and removed")
    with NetlinkSession.open() as netlink:
        for rule in remove_host_rules(netlink, host_table):
            print(f"rule {rule} removed")


def _require_few(gateways: list[str]) -> list[str]:
    if len(gateways) > GATEWAYS_MAX:
        raise BadInput(
            f"{len(gateways)} gateways are given, more than {GATEWAYS_MAX}",
            subject="--gateway",
            remedy="run the command several times, with some of the gateways each time",
        )
    return gateways


def _labels(texts: list[str]) -> dict[str, str]:
    invalid = next((text for text in texts if "=" not in text), None)
    if invalid is not None:
        raise BadInput(
            f"--label {invalid[:80]} has no equals sign",
            subject="--label",
            remedy="write KEY=VALUE, or KEY= for an empty value",
        )
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def _plain_plan(plan: NodePlan) -> dict[str, Any]:
    return {
        "actions": [
            {"action": type(action).__name__, **action._asdict()} for action in plan.actions
        ],
        "refusals": [refusal._asdict() for refusal in plan.refusals],
        "drain": list(plan.drain),
    }


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


def _manager(manager: NetworkManagerState | None) -> dict[str, bool] | None:
    if manager is None:
        return None
    return {"running": manager.running, "leaves_veths": manager.ignores_veths}


def _plain(examination: Examination, diagnoses: list[Diagnosis]) -> dict[str, Any]:
    return {
        "kernel": examination.kernel,
        "machine": examination.machine,
        "ipv6": examination.ipv6,
        "missingCapabilities": list(examination.missing_capabilities),
        "abilities": [entry._asdict() for entry in examination.features],
        "sysctls": [
            {"key": entry.sysctl.key, "wanted": entry.sysctl.value, "found": entry.current}
            for entry in examination.sysctls
        ],
        "interfaces": [_nic(nic) for nic in examination.nics],
        "roceQos": [
            state._asdict() | {"differences": list(state.differences), "gaps": list(state.gaps)}
            for state in examination.roce
        ],
        "gateways": [
            entry.gateway._asdict() | {"answeredBy": list(entry.macs), "fault": entry.fault}
            for entry in examination.gateways
        ],
        "networkManager": _manager(examination.manager),
        "diagnoses": [entry._asdict() for entry in diagnoses],
    }
