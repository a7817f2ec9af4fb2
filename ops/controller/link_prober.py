"""Probes quarantined addresses by ARP and neighbour discovery, on a link of the Pods.

Probes have no source address (RFC 5227, RFC 4862), so that neighbours learn nothing from them. The
gateway is probed first: if it does not answer, silence about the address proves nothing (I6).
"""

from __future__ import annotations

from core.errors import OrbweaverError
from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import OWN, NetnsExecutor
from workflows.jobs.quarantine.prober import ProbeResult, ProbeTarget


class LinkProber:
    """Probes from one interface. Create it inside the event loop that runs it."""

    def __init__(self, interface: str, name: str, netns: str = OWN) -> None:
        self._executor = NetnsExecutor()
        self._detector = Detector(self._executor)
        self._interface = interface
        self._netns = netns
        self._name = name

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """See ``Prober``."""
        here = f"on {self._interface} of {self._name}"
        if not target.witness:
            why = "no pool with a gateway has the address: silence would prove nothing"
            return ProbeResult("unable", text=f"{why} {here}")
        try:
            if not await self._ask(target.witness):
                why = f"the gateway {target.witness} does not answer {here}: check the interface"
                return ProbeResult("unable", text=why)
            mac = await self._ask(target.address)
        except OrbweaverError as error:
            return ProbeResult("unable", text=str(error))
        where = f"{here}, where the gateway {target.witness} answers"
        return ProbeResult("answered", mac, where) if mac else ProbeResult("silent", text=where)

    async def close(self) -> None:
        """Close all sockets and end the thread."""
        await self._detector.close()
        self._executor.close()

    async def _ask(self, address: str) -> str:
        """The MAC addresses that answer, "" for none. Raises DetectionFailed."""
        macs = await self._detector.find_responders(self._interface, address, self._netns)
        return ", ".join(macs)
