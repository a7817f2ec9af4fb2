"""Drains of nodes whose virtual functions must change while Pods have them.

drainer.py     the interface to the cluster
drains.py      the workflow: one for each cluster
activities.py  observe, cordon, evict, uncordon

``core.domain.sriov.drain_plan`` decides. Agents request drains in the SriovNetworkNodeState of
their node, and change nothing before the Pods have ended.
"""
