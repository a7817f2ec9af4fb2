"""Reads the fields of Kubernetes objects that decisions need.

    pods.py          Pods and Nodes
    applications.py  applications with automatic pools; owners of fixed addresses

Pure. Few fields of an object are stored, because there are many objects.
"""
