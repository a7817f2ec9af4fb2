"""Speaking with a Kubernetes API server: plain objects in, plain objects out.

    connection.py   one server with one identity
    credentials.py  inside a Pod, or a kubeconfig; alone imports the ``kubernetes`` package
    api.py          get, list, watch, create, apply, merge, delete, and refusals as errors
    discovery.py    where a server keeps the objects of a kind
    informer.py     a copy of a collection that follows the server, and which objects changed
    work_queue.py   what has to be looked at, one item at a time
    workloads/       what Pods, Nodes and their owners mean to the rules; alone knows any meaning

Nothing here decides, and nothing on the path of an ADD waits for it (I8).
"""
