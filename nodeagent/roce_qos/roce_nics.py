"""Reads the RoCE NICs of this node, and carries out changes.

A RoCE NIC is an Ethernet link of an RDMA device, or any NIC of that link's bond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from core.domain.roce_qos.qos_model import RoceNic
from core.domain.roce_qos.qos_plan import (
    AddDscpPriorities,
    EnableEcn,
    QosChange,
    RemoveDscpPriorities,
    SetCmTrafficClass,
    SetCnp,
    SetEts,
    SetPfc,
    SetTrafficClass,
    SetTrust,
)
from nodeagent.netlink import dcb
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaDevice, RdmaPort, RdmaSocket
from nodeagent.netlink.session import NetlinkSession
from nodeagent.roce_qos.qos_files import QosFiles

NICS_MAX: Final = 1_024
"""Further NICs are skipped."""

OpenRdma = Callable[[NetnsExecutor, NetworkNamespace], RdmaSocket | None]


class RoceNics:
    """The RoCE NICs of one node. The methods block."""

    def __init__(
        self, executor: NetnsExecutor, files: QosFiles, open_rdma: OpenRdma = RdmaSocket.open
    ) -> None:
        self._executor = executor
        self._files = files
        self._open_rdma = open_rdma

    def read(self) -> tuple[RoceNic, ...]:
        """The NICs, sorted by name. Raises DatapathError, OSError."""
        rdma_socket = self._open_rdma(self._executor, self._executor.own_namespace)
        if rdma_socket is None:
            return ()
        with rdma_socket:
            ports = rdma_socket.ports_by_link()
        names = [link for link in sorted(ports)[:NICS_MAX] if self._files.is_nic(link)]
        all_bonds = {bond for link in names if (bond := self._files.bond(link))}
        bonds = {nic: bond for bond in all_bonds for nic in self._files.nics_of_bond(bond)}
        with self._executor.session(self._executor.own_namespace) as session:
            return tuple(
                self._nic(session, link, ports.get(link, []), bonds)
                for link in sorted({*names, *bonds})
            )

    def carry_out(self, change: QosChange) -> None:
        """Carry out one change; a change may be repeated. Raises DatapathError, OSError."""
        match change:
            case EnableEcn(nic, point, priority):
                self._files.enable_ecn(nic, point, priority)
            case SetCnp(nic, field, value):
                self._files.set_cnp(nic, field, value)
            case SetTrafficClass(_, device, port, value):
                self._files.set_traffic_class(device, port, value)
            case SetCmTrafficClass(_, device, port, value):
                self._files.set_cm_traffic_class(device, port, value)
            case _:
                with self._executor.session(self._executor.own_namespace) as session:
                    _change_dcb(session, change)

    def _nic(
        self,
        session: NetlinkSession,
        link: str,
        ports: list[tuple[RdmaDevice, RdmaPort]],
        bonds: Mapping[str, str],
    ) -> RoceNic:
        pf = self._files.pf(link)
        nic = RoceNic(
            link,
            tuple(self._files.port(device.name, port.number) for device, port in ports),
            master=pf or bonds.get(link, ""),
        )
        if pf or link in bonds.values():  # the PF or the bond's NICs have the settings
            return nic._replace(has_port_settings=False)
        return nic._replace(dcb=dcb.read_dcb(session, link), ecn=self._files.ecn(link))


def _change_dcb(
    session: NetlinkSession,
    change: SetTrust | AddDscpPriorities | RemoveDscpPriorities | SetEts | SetPfc,
) -> None:
    match change:
        case SetEts(nic, ets):
            dcb.set_ets(session, nic, ets)
        case SetTrust(nic, trust):
            dcb.set_trust(session, nic, trust)
        case AddDscpPriorities(nic, entries):
            dcb.add_dscp_priorities(session, nic, entries)
        case RemoveDscpPriorities(nic, entries):
            dcb.remove_dscp_priorities(session, nic, entries)
        case SetPfc(nic, priorities):
            dcb.set_pfc(session, nic, priorities)
