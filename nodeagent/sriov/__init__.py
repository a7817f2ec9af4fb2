"""Virtual functions by SriovNetworkNodePolicies (docs/how-to/create-virtual-functions.md).

    sysfs.py            files of /sys below a root: the only module that writes them
    vf_links.py         what the kernel takes by netlink alone: addresses, GUIDs, switch modes
    vf_configurator.py  carries out one action of a plan
    guid_keeper.py      the GUIDs of InfiniBand in the log, before they are set
    node_hardware.py    the NICs of this node, and the file of GUIDs
    reconciler.py       one round: read, plan, carry out, report; woken by changes and by drift
    sriov_setup.py      starts it from the settings

``core.domain.sriov`` plans. Virtual functions of running Pods are never removed, and the NIC with
the node's own traffic is never changed.
"""
