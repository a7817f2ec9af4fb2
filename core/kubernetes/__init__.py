"""The client of a Kubernetes API server; objects are plain mappings.

    http_connection.py    HTTP requests to one server with one identity
    credentials.py        the credentials of a Pod or a kubeconfig, and their TLS settings
    kubeconfig.py         reads server, identity and TLS from a kubeconfig or a Pod's files
    tokens.py             the ``Authorization`` header, from a file or a constant
    credential_plugin.py  the exec plugin of a kubeconfig
    api_client.py         get, list, watch, create, apply, merge, delete; discovery of kinds
    informer.py           a copy of a collection, kept by list and watch
    work_queue.py         keys to reconcile, one at a time
    workloads/            reads the fields of Pods, Nodes and their owners that decisions need

No ADD waits for these requests (I8 of docs/contributing/architecture.md).
"""
