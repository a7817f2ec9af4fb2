"""Settings that agents and controllers share.

conf_file.py        the schema of conf.yml
device_plugin.py    the settings of the device plugin
rdma_mode.py        how RDMA devices belong to network namespaces
roce_qos.py         quality of service of RoCE NICs
shared_rdma.py      the configuration file of shared RDMA devices
shared_settings.py  options of the daemons, address order, cool-down, network provider, traces
sriov.py            virtual functions that SriovNetworkNodePolicies define
"""
