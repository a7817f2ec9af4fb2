"""The device plugin: advertises slots and devices to kubelet (docs/how-to/limit-pods-by-nic.md).

    kubelet_api.py         messages and names of kubelet's device plugin API, v1beta1
    device_plugin.py       the socket, the devices and the registration of one resource
    device_advertiser.py   keeps the advertised resources up to date
    slot_offers.py         slots of NICs and of a network provider
    vf_offers.py           virtual functions of SriovNetworkNodePolicies
    shared_rdma_offers.py  shares of RDMA devices, by the chart's configuration
    pci_files.py           the character devices of a PCI device, from /sys
    physical_functions.py  the node's NICs that can have virtual functions
    pod_resources.py       the devices of Pods, from kubelet
    device_info.py         files that describe a device for Multus
    device_setup.py        starts the device plugin from the settings

``core.domain.slots`` and ``core.domain.sriov`` decide what is advertised. Pods that request no
device do not need the device plugin.
"""
