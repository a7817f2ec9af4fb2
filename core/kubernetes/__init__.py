"""Speaking with a Kubernetes API server: plain objects in, plain objects out.

    connection.py    one server with one identity
    credentials.py   inside a Pod, or a kubeconfig; alone imports the ``kubernetes`` package
    api.py           get, list, watch, create, apply, merge, delete, and refusals as errors
    informer.py      a copy of a collection that follows the server, and which objects changed

Nothing here knows what an object means, and nothing on the path of an ADD waits for it (I8).
"""
