"""Facts from an API server instead of records; the agent is the same in all else.

    owners.py              from a Pod's controller to the top one, and StatefulSets
    services.py Services and EndpointSlices, for ClusterIPs without kube-proxy
    tenants.py             Pods with RDMA devices of their own, for labels of their counters
    facts.py               the facts of a request: seen, or waited for a moment, or read
    cluster_connection.py  credentials, and all of it in the background

For a Pod that the agent has seen, ADD and DEL ask the API server nothing (I8).
"""
