"""Facts about Pods from the API server instead of from records in etcd.

    owners.py              from a Pod's controller to the top one, and StatefulSets
    services.py            Services and EndpointSlices, for ClusterIPs without kube-proxy
    rdma_pods.py           Pods with RDMA devices of their own, for labels of their counters
    facts.py               the facts of a request: from the watch, after a short wait, or read
    cluster_connection.py  credentials; runs the watches in the background

For a Pod that the agent has seen, ADD and DEL ask the API server nothing (I8).
"""
