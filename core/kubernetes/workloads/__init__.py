"""What objects of Kubernetes mean to the rules: plain facts, for agents and controllers.

    pods.py          Pods and Nodes
    owners.py        StatefulSets, VM instances and VMs
    applications.py  the six kinds that automatic pools are made for

Pure. Nothing here fetches or decides. What is kept of an object is small, because there are many.
"""
