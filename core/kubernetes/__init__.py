"""The client of a Kubernetes API server; objects are plain mappings.

    connection.py   HTTP requests to one server with one identity
    credentials.py  the credentials of a Pod or a kubeconfig, and their TLS settings
    kubeconfig.py   reads server, identity and TLS from a kubeconfig or a Pod's files
    tokens.py       the ``Authorization`` header, from a file, a plugin or a constant
    api.py          get, list, watch, create, apply, merge, delete; discovery of kinds
    informer.py     a watched copy of a collection, and which objects changed
    work_queue.py   keys to reconcile, one at a time
    workloads/      reads Pods, Nodes and their owners for the rules

No ADD waits for these requests (I8 of docs/contributing/architecture.md).
"""
