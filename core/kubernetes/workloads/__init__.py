"""Reads what rules need from Kubernetes objects.

    pods.py          Pods and Nodes
    applications.py  applications with automatic pools; owners of fixed addresses

Pure. Few fields of an object are stored, because there are many objects.
"""
