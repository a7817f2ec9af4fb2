"""Reclaim: releases the addresses of Pods that are gone, on evidence.

pod              the workflow of one Pod: wait for its deadline, read it again, release
change_listener  changes of Pods, and the executions that they start
scan             the workflow of the cluster: judge all claims, release, wait; its status
scan_activities  its activities: one scan of everything, one chunk of releases
scan_states      the findings of a scan, stored and named by reference
context          what both read and write: Pod and Node state, releases
records          Pod and Node state without Kubernetes
"""
