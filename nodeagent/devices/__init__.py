"""The device plugin: what a node has so many of, offered to its kubelet.

See docs/how-to/limit-pods-by-nic.md.

    kubelet_api.py    the messages of kubelet's device plugin API, v1beta1, and its names
    nic_inventory.py  the node's NICs
    plugin.py         one resource: its socket, its list of slots, its registration
    advertiser.py     keeps offers as rules, labels and NICs say, through restarts of kubelet
    device_setup.py   from settings to a loop at work

What is offered by which rules is ``core.domain.devices``. Promise: Pods start and run without any
of this; what cannot be known now withdraws nothing. A slot is a number: nothing is mounted or set
up for it.
"""
