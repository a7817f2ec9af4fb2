"""The device plugin: advertises slots of NICs to kubelet (docs/how-to/limit-pods-by-nic.md).

    kubelet_api.py    kubelet's device plugin API, v1beta1: its messages and names
    plugin.py         one resource: its socket, its list of slots, its registration
    advertiser.py     keeps resources up to date with rules, labels and NICs
    device_setup.py   starts it from the settings

``core.domain.devices`` decides what is advertised. Pods start and run without the device plugin;
what cannot be read withdraws nothing. A slot is a number: nothing is mounted or set up for it.
"""
