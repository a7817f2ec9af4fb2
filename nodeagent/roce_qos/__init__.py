"""Configures quality of service of RoCE NICs by the rules of conf.yml (docs/guides/rdma-roce.md).

    qos_files.py       ECN and traffic classes: files of /sys and of the RDMA CM's configfs
    roce_nics.py       reads the node's RoCE NICs, and carries out one change of a plan
    qos_reconciler.py  carries out plans in rounds, which also correct drift
    roce_qos_setup.py  starts the reconciler from the settings

``core.domain.roce_qos`` computes the plan. Settings that a driver does not support are reported,
but they are no error.
"""
