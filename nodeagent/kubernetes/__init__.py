"""Objects of the API server that the agent uses. Without Kubernetes, records in etcd replace them.

    cluster_pod_facts.py    facts about the Pod of a request
    pod_owners.py           top controllers of Pods, StatefulSets, virtual machines
    coordinator_watch.py    the settings of the SpiderCoordinator
    multus_config_watch.py  the SpiderMultusConfigs, for network providers
    service_watch.py        Services and EndpointSlices, for ClusterIPs without kube-proxy
    rdma_pods.py            Pods with RDMA devices, for the labels of RDMA metrics
    sriov_watch.py          policies and state of virtual functions
    cluster_connection.py   credentials; runs the watches in the background

For a Pod that the watch has delivered, ADD and DEL need no request to the API server (I8).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""
