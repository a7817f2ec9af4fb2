"""Probes quarantined addresses by ARP and neighbour discovery, on a network that Pods use.

Probes have no source address (RFC 5227, RFC 4862), so neighbour caches do not change. Silence
of the address is evidence only if the gateway answers (I6 of docs/contributing/architecture.md).
"""

from __future__ import annotations

from core.errors import OrbweaverError
from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import OWN_NAMESPACE_PATH, NetnsExecutor
from workflows.jobs.quarantine.prober import ProbeResult, ProbeTarget


class LinkProber:
    """A prober; create it inside its event loop. ``name`` is the controller's name."""

    def __init__(self, interface: str, name: str, netns: str = OWN_NAMESPACE_PATH) -> None:
        self._executor = NetnsExecutor()
        self._detector = Detector(self._executor)
        self._interface = interface
        self._netns = netns
        self._name = name

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """Probe the target's gateway, then the target's address. See ``Prober``."""
        link = f"on {self._interface} of {self._name}"
        gateway = target.gateway
        if not gateway:
            why = "no pool that contains the address has a gateway"
            return ProbeResult("unable", text=f"{why}: a missing answer {link} proves nothing")
        try:
            if not await self._probe_address(gateway):
                why = f"the gateway {gateway} does not answer {link}: check the interface"
                return ProbeResult("unable", text=why)
            mac = await self._probe_address(target.address)
        except OrbweaverError as error:
            return ProbeResult("unable", text=str(error))
        text = f"{link}, where the gateway {gateway} answers"
        return ProbeResult("answered", mac, text) if mac else ProbeResult("silent", text=text)

    async def close(self) -> None:
        """Close all sockets and end the thread."""
        await self._detector.close()
        self._executor.close()

    async def _probe_address(self, address: str) -> str:
        """The MAC addresses that answer, comma-separated. Raises DetectionFailed."""
        macs = await self._detector.find_responders(self._interface, address, self._netns)
        return ", ".join(macs)
