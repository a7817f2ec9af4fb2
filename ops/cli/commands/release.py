"""``orbctl release``: releases all addresses of a Pod whose DEL was lost.

Releases nothing if the endpoint changes after its addresses were shown (invariants I3 and I4,
docs/contributing/architecture.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.allocation.releaser import Released, ReleaseRequest
from core.domain.addresses.ip_address import AddressSyntaxError, parse_address
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.model import Endpoint
from core.domain.validation.common_rules import counted
from core.errors import NotFound
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.kv import Get
from ops.cli.action_runner import PodNamespace, Yes, confirm, perform
from ops.cli.exit_codes import Exit, fail
from ops.cli.kinds import split_name

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

CHANGED = "the addresses have changed since they were shown"


def release(
    context: typer.Context,
    holder: Annotated[str, typer.Argument(help="an address, NAMESPACE/POD or POD")],
    reason: Annotated[
        str, typer.Option("--reason", help="evidence that the Pod is gone, stored in the log")
    ],
    namespace: PodNamespace = "default",
    yes: Yes = False,
) -> None:
    """Release all addresses of one Pod.

    Examples:
      orbctl release shop/web-0 --reason 'node-a was reinstalled'
      orbctl release 10.6.0.17 --reason 'its DEL was lost' --yes
    """

    async def action(session: ClusterSession) -> None:
        endpoint = await find_endpoint(session, holder, namespace)
        _describe(endpoint)
        count = counted(len(endpoint.addresses()), "address", "addresses")
        if not confirm(f"Release {count}? The Pod must not run any more.", yes=yes):
            fail("nothing was released", Exit.FAILED, "answer yes, or give --yes")
        released = await _release(session, endpoint, reason)
        if released.why == CHANGED:
            fail(
                f"nothing was released: {CHANGED}",
                Exit.FAILED,
                "check the addresses, then run the command again",
            )
        if not released.addresses:
            print(f"nothing to release: {released.why}")
        for address in released.addresses:
            print(f"{address} released")

    perform(context, action)


async def find_endpoint(session: ClusterSession, text: str, namespace: str) -> Endpoint:
    """Find an endpoint by name or by address. Raises NotFound."""
    key = split_name(text, namespace)
    try:
        address = str(parse_address(text))
    except AddressSyntaxError:
        message = f"Pod {key[0]}/{key[1]} has no addresses"
    else:
        kvs = (await session.store.read([Get(session.keys.ip_of(address))])).ranges[0].kvs
        if not kvs:
            raise NotFound(
                f"{address} is not allocated",
                subject=address,
                remedy=f"`orbctl describe address {address}` shows its state",
            )
        claim = CLAIM_CODEC.decode(kvs[0].value)
        key = (claim.namespace, claim.pod)
        message = f"{address} is claimed for {key[0]}/{key[1]}, but the store has no such endpoint"
    kvs = (await session.store.read([Get(session.keys.endpoint(*key))])).ranges[0].kvs
    if not kvs:
        raise NotFound(message, remedy="see `orbctl get endpoints -A`, or run `orbctl verify`")
    return ENDPOINT_CODEC.decode(kvs[0].value)


async def _release(session: ClusterSession, shown: Endpoint, reason: str) -> Released:
    def decide(endpoint: Endpoint) -> ReleaseDecision:
        if endpoint != shown:
            return ReleaseDecision(ends=False, why=CHANGED)
        return ReleaseDecision(ends=True, why="an operator requested it")

    request = ReleaseRequest("operator", reason, session.cause)
    return await session.write(
        lambda writer: session.releaser(writer).release(shown.key, decide, request)
    )


def _describe(endpoint: Endpoint) -> None:
    node = f" on node {endpoint.node}" if endpoint.node else ""
    typer.echo(f"{endpoint.namespace}/{endpoint.name}, UID {endpoint.uid}{node}, holds:", err=True)
    for nic in endpoint.nics:
        for address, pool in nic.addresses():
            typer.echo(f"  {nic.interface or '-'}  {address}  (pool {pool})", err=True)
