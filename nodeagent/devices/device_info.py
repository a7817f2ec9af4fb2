"""Writes files that describe a device for Multus (NPWG device information specification 1.1).

Multus copies the file into an annotation of the Pod. RDMA metrics read the annotation to find the
Pod of a device. A failed write is logged, and the Pod starts without the file.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Final, NamedTuple

DEVICE_INFO: Final = Path("/var/run/k8s.cni.cncf.io/devinfo/dp")
_VERSION: Final = "1.1.0"
_MODE: Final = 0o644

_log: Final = logging.getLogger(__name__)


class DeviceInfoFiles(NamedTuple):
    """The device information files of one node."""

    directory: Path = DEVICE_INFO

    def write(self, resource: str, address: str, parent: str, rdma: str) -> None:
        """Write the file of the virtual function at PCI address ``address``.

        ``parent``: the physical function's PCI address, or "". ``rdma``: the RDMA device, or "".
        """
        pci = {"pci-address": address}
        if parent:
            pci["pf-pci-address"] = parent
        if rdma:
            pci["rdma-device"] = rdma
        text = json.dumps({"type": "pci", "version": _VERSION, "pci": pci})
        path = self.path(resource, address)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, "ascii")
            temporary.chmod(_MODE)
            temporary.replace(path)
        except OSError as error:
            _log.warning("cannot write %s, which describes a device for Multus: %s", path, error)

    def path(self, resource: str, address: str) -> Path:
        return self.directory / f"{resource.replace('/', '-')}-{address}-device.json"
