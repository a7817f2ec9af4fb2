"""Probes of quarantined addresses: the target, the result, and the interface of a prober.

Silence is evidence only if the probe reached the link. So a prober first probes a *reference host*,
the gateway. Without an answer from the reference host, the result is ``unable``, never ``silent``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

Verdict = Literal["answered", "silent", "unable", "over"]
"""``over``: the quarantine has ended, or another one has begun. Probers do not return ``over``."""


class ProbeTarget(NamedTuple):
    """An address without prefix length, and the gateway of its pool (or "")."""

    address: str
    gateway: str = ""


class ProbeResult(NamedTuple):
    """The result of a probe. ``mac``: the MAC address of the host that answered.

    ``text``: the link on which the probe was sent, or why no probe could be sent.
    """

    verdict: Verdict
    mac: str = ""
    text: str = ""


class Prober(Protocol):
    """Sends probes on a link."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Probe an address. A failure returns ``unable`` and raises no error."""
        ...


NO_PROBER: Final = "no interface to probe from is configured: set ORBWEAVER_PROBE_INTERFACE"


class NoProber:
    """The prober of a controller without an interface on the Pods' links."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Always ``unable``."""
        return ProbeResult("unable", text=NO_PROBER)
