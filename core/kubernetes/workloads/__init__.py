"""Reads what rules need from Kubernetes objects.

    pods.py          Pods and Nodes
    applications.py  the six kinds with automatic pools; StatefulSets, VM instances and VMs

Pure. Few fields of an object are stored, because there are many objects.
"""
