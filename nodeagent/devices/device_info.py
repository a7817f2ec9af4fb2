"""Files that tell Multus what a device is (device information specification 1.1 of the NPWG).

Multus copies what they say into the annotation ``k8s.v1.cni.cncf.io/network-status`` of a Pod:
the PCI address, and the RDMA device, by which metrics know whose device it is. A file that cannot
be written is logged, and the Pod starts without it.
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
    """The files of one node."""

    directory: Path = DEVICE_INFO

    def write(self, resource: str, address: str, parent: str, rdma: str) -> None:
        """Describe a virtual function. ``parent``: its physical function; ``rdma`` "": none."""
        pci = {"pci-address": address}
        if parent:
            pci["pf-pci-address"] = parent
        if rdma:
            pci["rdma-device"] = rdma
        text = json.dumps({"type": "pci", "version": _VERSION, "pci": pci})
        path = self.path(resource, address)
        building = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            building.write_text(text, "ascii")
            building.chmod(_MODE)
            building.replace(path)
        except OSError as error:
            _log.warning("cannot write %s, which tells Multus of a device: %s", path, error)

    def path(self, resource: str, address: str) -> Path:
        """Where the file of a device is."""
        return self.directory / f"{resource.replace('/', '-')}-{address}-device.json"
