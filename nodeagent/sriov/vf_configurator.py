"""Carries out one action of a plan. Repeating an action does no harm.

New virtual functions (VFs) have no driver: the hardware address must be set before a driver binds.
"""

from __future__ import annotations

from typing import Final

from core.domain.sriov.model import VFIO
from core.domain.sriov.vf_plan import (
    Action,
    BindDriver,
    SetEswitchMode,
    SetMtu,
    SetVfCount,
    SetVfMac,
    SetVfSpoofCheck,
    SetVfTrust,
)
from core.errors import DatapathError
from nodeagent.sriov.sysfs import DRIVERS_PATH, Sysfs
from nodeagent.sriov.vf_links import VfLinks

_GUID_BYTES: Final = 8

_PROBE: Final = "bus/pci/drivers_probe"
_AUTOPROBE: Final = "sriov_drivers_autoprobe"


class VfConfigurator:
    """Changes NICs. ``carry_out`` blocks: a NIC may take minutes to create many VFs."""

    def __init__(self, sysfs: Sysfs, links: VfLinks) -> None:
        self._sysfs = sysfs
        self._links = links

    def carry_out(self, action: Action) -> None:
        """Carry out one action. Raises DatapathError."""
        match action:
            case SetVfCount():
                self._set_count(action)
            case SetEswitchMode():
                self._links.set_eswitch_mode(action.address, action.mode)
            case SetMtu():
                self._set_mtu(action)
            case SetVfMac():
                self._set_mac(action)
            case SetVfTrust():
                self._links.set_trust(action.nic, action.vf, trust=action.trust)
            case SetVfSpoofCheck():
                self._links.set_spoof_check(action.nic, action.vf, spoof_check=action.spoof_check)
            case BindDriver():
                self._bind(self._sysfs.vf_address(action.address, action.vf), action.driver)

    def _set_count(self, action: SetVfCount) -> None:
        device = self._sysfs.device(action.address)
        autoprobe = device / _AUTOPROBE
        has_autoprobe = autoprobe.exists()  # before Linux 4.12 the kernel always binds a driver
        if action.vfs and has_autoprobe:
            self._sysfs.write(autoprobe, "0")
        try:
            self._sysfs.write(device / "sriov_numvfs", str(action.vfs))
        finally:
            if action.vfs and has_autoprobe:
                self._sysfs.write(autoprobe, "1")
        if action.vfs:
            self._links.set_link_up(action.nic)

    def _set_mtu(self, action: SetMtu) -> None:
        link = action.nic
        if action.vf is not None:
            link = self._sysfs.link(self._sysfs.vf_address(action.address, action.vf))
        self._sysfs.write(self._sysfs.root / "class/net" / link / "mtu", str(action.mtu))

    def _set_mac(self, action: SetVfMac) -> None:
        mac = bytes.fromhex(action.mac.replace(":", ""))
        if len(mac) == _GUID_BYTES:
            self._links.set_guid(action.nic, action.vf, mac)
        else:
            self._links.set_mac(action.nic, action.vf, mac)

    def _bind(self, vf: str, driver: str) -> None:
        """Bind a virtual function to ``driver``, or to the kernel's choice if ``driver`` is ""."""
        device = self._sysfs.device(vf)
        if driver == VFIO and not (self._sysfs.root / DRIVERS_PATH / driver).is_dir():
            raise DatapathError(
                f"cannot bind {vf} to {driver}: the driver is not loaded",
                subject=vf,
                remedy=f"modprobe {driver}, and name it in /etc/modules-load.d for the next boot",
            )
        self._sysfs.write(device / "driver_override", driver)
        if self._sysfs.driver(vf):
            self._sysfs.write(device / "driver/unbind", vf)
        autoprobe = device / "physfn" / _AUTOPROBE
        if self._sysfs.read(autoprobe) == "0":  # left by an agent that ended while creating VFs
            self._sysfs.write(autoprobe, "1")
        self._sysfs.write(self._sysfs.root / _PROBE, vf)
        bound = self._sysfs.driver(vf)
        text = ""
        if not bound:
            text = f"no driver has bound {vf}"
        elif driver and bound != driver:
            text = f"expected the driver {driver} of {vf}, found {bound}"
        if text:
            raise DatapathError(
                text,
                subject=vf,
                remedy="load the driver of the virtual functions (modprobe); vfio-pci needs an"
                " enabled IOMMU; dmesg has the reason",
            )
