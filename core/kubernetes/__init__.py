"""The client of a Kubernetes API server; objects are plain mappings.

    connection.py   one server with one identity
    credentials.py  those of a Pod, or a kubeconfig; the only import of the ``kubernetes`` package
    kubeconfig.py   server, identity and TLS of a kubeconfig or of a Pod
    tokens.py       the ``Authorization`` header, from a file, a plugin or a constant
    api.py          get, list, watch, create, apply, merge, delete; failures as errors; discovery
    informer.py     a watched copy of a collection, and which objects changed
    work_queue.py   keys to reconcile, one at a time
    workloads/      facts from Pods, Nodes and their owners

Nothing here decides, and no ADD waits for it (I8).
"""
