"""The device plugin: advertises slots and devices to kubelet (docs/how-to/limit-pods-by-nic.md).

    kubelet_api.py    kubelet's device plugin API, v1beta1: its messages and names
    plugin.py         one resource: its socket, its list of devices, its registration
    advertiser.py     keeps resources up to date with what the node offers
    slot_offers.py    slots of NICs and of a network provider
    vf_offers.py      virtual functions of SriovNetworkNodePolicies
    shared_rdma_offers.py  shares of RDMA devices, by the chart's configuration
    pci_files.py      what /sys says of a PCI device
    device_info.py    files that tell Multus what a device is
    device_setup.py   starts it from the settings

``core.domain.devices`` and ``core.domain.sriov`` decide what is advertised. Pods without devices
start and run without the device plugin; what cannot be read withdraws nothing.
"""
