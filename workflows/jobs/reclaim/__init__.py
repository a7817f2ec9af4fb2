"""Reclaim: release the addresses of deleted Pods, on evidence.

pod              the workflow of one Pod: wait for its deadline, read it again, release
change_listener  changes of Pods, and the executions that they start
scan             the workflow of the cluster: check all claims, release, wait; its status
scan_activities  its activities: one scan of everything, one chunk of releases
scan_states      the findings of a scan, stored and named by reference
context          Pod and Node state, clocks and releases, for both
records          Pod and Node state without Kubernetes
"""
