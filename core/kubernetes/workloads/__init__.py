"""Facts from Kubernetes objects, for the rules of agents and controllers.

    pods.py          Pods and Nodes
    applications.py  the six kinds with automatic pools; StatefulSets, VM instances and VMs

Pure. Nothing here fetches or decides. Only few fields of an object are stored, because there are
many objects.
"""
