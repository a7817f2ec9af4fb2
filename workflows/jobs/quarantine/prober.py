"""The interface of probers of quarantined addresses.

Silence is evidence only if the probe reached the network link. So a prober first probes the
gateway. If the gateway does not answer, the result is ``unable``, never ``silent``.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

Verdict = Literal["answered", "silent", "unable", "over"]
"""``over``: the quarantine has ended, or another one has begun. No prober returns ``over``."""


class ProbeTarget(NamedTuple):
    """An address without prefix length, and a gateway or ""."""

    address: str
    gateway: str = ""


class ProbeResult(NamedTuple):
    """The result of a probe. ``text``: the network link of the probe, or why no probe was sent."""

    verdict: Verdict
    mac: str = ""
    text: str = ""


class Prober(Protocol):
    """Sends probes on a network link."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Probe an address. A failure returns ``unable`` and raises no error."""
        ...


NO_PROBER: Final = "no interface for probes is configured: set ORBWEAVER_PROBE_INTERFACE"


class NoProber:
    """The prober of a controller without an interface for probes."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Always ``unable``."""
        return ProbeResult("unable", text=NO_PROBER)
