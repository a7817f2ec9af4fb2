"""What a prober is asked and answers.

Silence is evidence only if the prober was heard (I6). So it first asks a *witness*: somebody who
must be on the same link, the gateway. A prober that could not ask, was on another link, or got no
answer from the witness says ``unable``, never ``silent``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

Verdict = Literal["answered", "silent", "unable", "over"]
"""``over`` is no prober's word: the quarantine has ended, or is another one by now."""


class ProbeTarget(NamedTuple):
    """An address without prefix length, and the gateway of its pool, "" if it has none."""

    address: str
    witness: str = ""


class ProbeResult(NamedTuple):
    """What came of a probe. ``mac``: who answered; ``text``: from where, or why not."""

    verdict: Verdict
    mac: str = ""
    text: str = ""


class Prober(Protocol):
    """Whoever can ask on a link."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Ask who uses the address. Failures of its own are ``unable``; it raises nothing."""
        ...


NO_PROBER: Final = "no interface to probe from is configured: set ORBWEAVER_PROBE_INTERFACE"


class NoProber:
    """A controller that is on no link of the Pods: addresses stay until a person lifts them."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Unable."""
        return ProbeResult("unable", text=NO_PROBER)
