"""The device plugin: advertises slots and devices to kubelet (docs/how-to/limit-pods-by-nic.md)."""
