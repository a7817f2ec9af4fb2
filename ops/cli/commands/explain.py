"""``orbctl explain``: why a Pod gets addresses from certain pools, or gets none.

Writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.past_adds import NOW, LogMoment, PastAdds, read_past_adds
from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.configuration.commands import ApplyRecord
from core.domain.events import RecordDefined
from core.domain.model import Endpoint
from core.domain.request_facts import PodReference
from core.domain.selection.error_texts import SOURCE_TEXTS, describe_verdicts
from core.domain.selection.selection_request import FAMILY_NAMES, CandidateVerdict, SelectionRequest
from core.errors import BadInput, NotFound
from core.eventstore.codec import ENDPOINT_CODEC
from core.eventstore.kv import Get
from core.eventstore.state_reader import read_ledger
from core.manifests.commands import apply_command
from core.projections.configuration_view import ConfigurationSnapshot
from ops.cli import add_explanation
from ops.cli.action_runner import PodNamespace, perform
from ops.cli.add_explanation import Explanation, Trial
from ops.cli.commands.describe import describe_address
from ops.cli.exit_codes import Exit, report, report_unreadable_parts
from ops.cli.kept_addresses import why_kept
from ops.cli.kinds import ObjectKind, kind_of, split_name
from ops.cli.manifest_objects import read_commands
from ops.cli.output import show_value
from ops.cli.past_explanation import parse_moment, show_adds
from ops.cli.unlogged_state import binding_in_words

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

PLACEHOLDER_UID: Final = "not-given"
"""Replaces an unknown UID. The UID has one effect: where the address search begins."""


def explain(
    context: typer.Context,
    subject: Annotated[
        list[str] | None,
        typer.Argument(help="POD, NAMESPACE/POD, an address, or KIND NAME of one of them"),
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option("--request", help="YAML of a Pod, optionally with its Namespace and Node"),
    ] = None,
    namespace: PodNamespace = "default",
    node: Annotated[str, typer.Option(help="node that the Pod would run on")] = "",
    interface: Annotated[str, typer.Option(help="name of the NIC")] = "eth0",
    uid: Annotated[str, typer.Option(help="UID of the Pod, if it exists")] = "",
    ipv4_pool: Annotated[
        list[str] | None, typer.Option(help="default_ipv4_ippool of the CNI configuration")
    ] = None,
    ipv6_pool: Annotated[
        list[str] | None, typer.Option(help="default_ipv6_ippool of the CNI configuration")
    ] = None,
    as_of: Annotated[
        str, typer.Option("--as-of", help="show what the Pod had got by this time or log position")
    ] = "",
) -> None:
    """Explain which pools serve a Pod, and why others do not.

    The Pod comes from a record, a YAML file or the log. For a Pod that is only in the log, explain
    shows the results of its ADDs. For an address, explain shows its holder, or why it is not free
    and until when.

    Examples:
      orbctl explain shop/web-0
      orbctl explain --request pod.yaml
      orbctl explain shop/web-0 --ipv4-pool lan --node node-a
      orbctl explain shop/web-0 --as-of 14:03
      orbctl explain address 10.6.0.17
    """
    if bool(subject) == bool(request):
        raise BadInput(
            "a Pod and --request cannot be combined" if subject else "no Pod is given",
            subject="pod",
            remedy="give a Pod, or --request FILE",
        )
    pod = _plain_name(subject or [])
    records = _records(request) if request else []
    key = _pod_of(records) if request else split_name(pod, namespace)
    question = _Question(
        key,
        records,
        SelectionRequest(interface, tuple(ipv4_pool or ()), tuple(ipv6_pool or ())),
        node or _node_of(records),
        uid,
        is_hypothetical=bool(request or uid or node or ipv4_pool or ipv6_pool),
    )

    async def action(session: ClusterSession) -> Exit:
        if as_of:
            return await _explain_past(session, question, as_of)
        if is_address(pod):
            ledger = await read_ledger(session.store, session.keys)
            await describe_address(session, ledger, pod)
            return Exit.OK
        return await _explain_pod(session, question)

    perform(context, action)


class _Question(NamedTuple):
    """What the user asks about a Pod.

    ``is_hypothetical``: options describe the ADD, so past ADDs are not shown.
    """

    key: tuple[str, str]
    records: list[RecordDefined]
    selection: SelectionRequest
    node: str
    uid: str
    is_hypothetical: bool


async def _explain_past(session: ClusterSession, question: _Question, as_of: str) -> Exit:
    name = question.key[1]
    if is_address(name):
        remedy = f"orbctl as-of '{as_of}' address {name}"
        raise BadInput("--as-of takes a Pod, not an address", subject=name, remedy=remedy)
    if question.is_hypothetical:
        raise BadInput(
            "--as-of shows past ADDs, so it accepts no options of a hypothetical ADD",
            subject="--as-of",
            remedy="leave out --request, --node, --uid, --ipv4-pool and --ipv6-pool",
        )
    moment = parse_moment(as_of, session.now_ms())
    adds = await session.read(lambda: _past_adds(session, question.key, moment))
    return show_adds("/".join(question.key), adds, session.output, session.now_ms())


async def _explain_pod(session: ClusterSession, question: _Question) -> Exit:
    key, store, keys = question.key, session.store, session.keys
    snapshot = await add_explanation.read_snapshot(store, keys, question.records)
    uid = question.uid or await _uid_of_endpoint(session, key) or PLACEHOLDER_UID
    facts = add_explanation.facts_of(
        store, keys, snapshot, PodReference(*key, uid, uid), question.node
    )
    if not (facts.pod.known or question.is_hypothetical):
        adds = await session.read(lambda: _past_adds(session, key, NOW))
        if adds.refused is not None or adds.names_selection_level:
            return show_adds("/".join(key), adds, session.output, session.now_ms())
    explanation = await add_explanation.explain_add(
        store, keys, snapshot, facts, question.selection
    )
    held = explanation.held
    retention = _Retention() if held is None else await _why_kept(session, held, snapshot)
    if session.output.is_structured:
        show_value(_plain(explanation, retention), session.output)
    else:
        _show(explanation, retention)
    if explanation.facts.pod.known or explanation.held is not None:
        return Exit.OK if explanation.would_succeed else Exit.REFUSED
    return report(
        NotFound(
            f"Pod {'/'.join(key)} has no record, no address and no refused ADD",
            remedy="pass its manifest: `orbctl explain --request pod.yaml`, or in a cluster"
            f" `kubectl get pod -n {key[0]} {key[1]} -o yaml | orbctl explain --request -`;"
            f" its past addresses: `orbctl history {'/'.join(key)}`",
        )
    )


class _Retention(NamedTuple):
    """Why a Pod keeps its addresses; "" if it has none.

    ``provider``: the state of its request to a network provider, or "".
    """

    why: str = ""
    provider: str = ""


async def _why_kept(
    session: ClusterSession, held: Endpoint, snapshot: ConfigurationSnapshot
) -> _Retention:
    return _Retention(why_kept(held, snapshot.records), await binding_in_words(session, held.key))


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        parse_address(text)
    except AddressSyntaxError:
        return False
    return True


def _plain_name(words: list[str]) -> str:
    if len(words) < 2:
        text = words[0] if words else ""
        return text.removeprefix("address/") if is_address(text.removeprefix("address/")) else text
    kind_of(words[0], (ObjectKind.POD, ObjectKind.ENDPOINT, ObjectKind.ADDRESS))
    if len(words) > 2:
        raise BadInput(
            "only one object can be explained at a time",
            subject=words[2],
            remedy="run the command once for each object",
        )
    return words[1]


async def _past_adds(session: ClusterSession, key: tuple[str, str], past: LogMoment) -> PastAdds:
    unread = UnreadPartList()
    view = await open_log(session.store, session.keys, session.archive, unread=unread)
    adds = await read_past_adds(view, key, past)
    report_unreadable_parts(unread)
    return adds


def _records(paths: list[str]) -> list[RecordDefined]:
    records = []
    for command in read_commands(paths, apply_command):
        if not isinstance(command, ApplyRecord):
            raise BadInput(
                "the request contains an object that is not a Pod, a Namespace or a Node",
                subject="request",
                remedy="pass one Pod, optionally with its Namespace and Node; `orbctl simulate -f`"
                " tries pools",
            )
        records.append(command.record)
    return records


def _pod_of(records: list[RecordDefined]) -> tuple[str, str]:
    pods = [(record.namespace, record.name) for record in records if record.kind == "Pod"]
    if len(pods) != 1:
        raise BadInput(
            f"a request must contain one Pod; this one contains {len(pods)}",
            subject="request",
            remedy="pass the manifest of one Pod, optionally with its Namespace and Node",
        )
    return pods[0]


def _node_of(records: list[RecordDefined]) -> str:
    nodes = [record.name for record in records if record.kind == "Node"]
    return nodes[0] if len(nodes) == 1 else ""


async def _uid_of_endpoint(session: ClusterSession, key: tuple[str, str]) -> str:
    kvs = (await session.store.read([Get(session.keys.endpoint(*key))])).ranges[0].kvs
    return ENDPOINT_CODEC.decode(kvs[0].value).uid if kvs else ""


def _show(explanation: Explanation, retention: _Retention) -> None:
    pod = explanation.facts.pod
    no_record_note = "" if pod.known else " (no record: only its name is known)"
    print(f"Pod {pod.namespace}/{pod.name}{no_record_note}")
    if explanation.held is not None:
        held = ", ".join(f"{address} ({pool})" for address, pool in explanation.held.addresses())
        print(f"holds {held}: {explanation.outlook}")
        print(f"kept: {retention.why}")
        if retention.provider:
            print(f"network provider: {retention.provider}")
    if explanation.selection is None:
        assert explanation.error is not None, "without a selection there is an error"
        print(f"an ADD fails: {explanation.error.message}")
        if explanation.error.remedy and "orbctl explain" not in explanation.error.remedy:
            print(f"  → {explanation.error.remedy}")
        print("\n".join(describe_verdicts(explanation.verdicts)))
        return
    selection = explanation.selection
    print(f"IPPools come from {SOURCE_TEXTS[selection.source]}")
    for demand in selection.demands:
        nic = (demand.interface, demand.family)
        gateway = ", no default route" if demand.clean_gateway else ""
        print(f"\nNIC {demand.interface}, {FAMILY_NAMES[demand.family]}{gateway}:")
        verdicts = (
            verdict for verdict in selection.verdicts if (verdict.interface, verdict.family) == nic
        )
        print("\n".join(describe_verdicts(verdicts)))
        trials = [trial for trial in explanation.trials if (trial.interface, trial.family) == nic]
        if trials:
            depends_on_uid = (
                pod.fixed is None and trials[0].first and any(trial.address for trial in trials)
            )
            is_example = pod.uid == PLACEHOLDER_UID and depends_on_uid
            example = " (an example: it depends on the Pod's UID)" if is_example else ""
            print(f"  → {_outcome(trials)}{example}")
    for note in selection.notes:
        print(f"note on NIC {note.interface}: {note.text}")
    for route in explanation.unmatched_routes:
        print(f"note: no NIC's subnet has the gateway of the route {route.dst} via {route.gw}")


def _outcome(trials: list[Trial]) -> str:
    full_pools: list[str] = []
    for trial in trials:
        if trial.address:
            full = f"{', '.join(full_pools)} full; " if full_pools else ""
            obstacle = f" ({trial.first} {trial.obstacle})" if trial.obstacle else ""
            return f"{full}would get {trial.address} of {trial.pool}{obstacle}"
        full_pools.append(trial.pool)
    limits = [trial.obstacle for trial in trials if not trial.first and trial.obstacle]
    reason = "; ".join(limits) or f"all IP addresses used out in {', '.join(full_pools)}"
    return f"would fail: {reason}"


def _plain(explanation: Explanation, retention: _Retention) -> dict[str, Any]:
    selection = explanation.selection
    return {
        "pod": f"{explanation.facts.pod.namespace}/{explanation.facts.pod.name}",
        "served": explanation.would_succeed,
        "holds": [address for address, _ in explanation.held.addresses()]
        if explanation.held
        else [],
        "outlook": explanation.outlook if explanation.held else "",
        "kept": retention.why,
        "provider": retention.provider,
        "source": selection.source if selection else None,
        "demands": [entry._asdict() for entry in selection.demands] if selection else [],
        "verdicts": [_plain_verdict(entry) for entry in explanation.verdicts],
        "notes": [entry._asdict() for entry in selection.notes] if selection else [],
        "strayRoutes": [entry._asdict() for entry in explanation.unmatched_routes],
        "trials": [{**entry._asdict(), "address": entry.address} for entry in explanation.trials],
        "error": explanation.error.message if explanation.error else None,
    }


def _plain_verdict(verdict: CandidateVerdict) -> dict[str, Any]:
    return {name: value for name, value in verdict._asdict().items() if value != ""}
