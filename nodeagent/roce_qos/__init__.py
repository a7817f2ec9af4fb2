"""Quality of service of RoCE NICs, by the rules of conf.yml (docs/guides/rdma-roce.md).

    qos_files.py       ECN and traffic classes: files of /sys and of the RDMA CM's configfs
    roce_nics.py       reads the node's RoCE NICs, and carries out one change of a plan
    qos_reconciler.py  one round: read, plan, carry out; again after a while, against drift
    roce_qos_setup.py  starts it from the settings

``core.domain.roce_qos`` plans. What a driver does not support is reported, and is no error.
"""
