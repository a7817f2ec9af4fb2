"""Configures virtual functions as SriovNetworkNodePolicies request.

See docs/how-to/create-virtual-functions.md.

    sysfs.py            reads and writes files of /sys
    vf_links.py         settings that exist only in netlink: addresses, GUIDs, switch modes
    vf_configurator.py  carries out one action of a plan
    guid_keeper.py      records GUIDs of InfiniBand in the event log before they are set
    node_hardware.py    the NICs of this node, and the administrator's file of GUIDs
    reconciler.py       carries out plans and reports results, in rounds
    sriov_setup.py      starts the reconciler from the settings

``core.domain.sriov`` computes the plans. Virtual functions of running Pods are never removed, and
the NIC with the node's own traffic is never changed.
"""
