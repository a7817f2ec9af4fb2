"""Reclaim: release the addresses of deleted Pods, on evidence.

pod              changes of Pods, and the workflow of one Pod: wait for its deadline, release
scan             the workflow of the cluster: check all claims, release, wait; its status
scan_activities  its activities: one scan of everything, one chunk of releases
scan_states      the findings of a scan, stored and named by reference
context          the source of Pod and Node state, the clocks and the releases, for both
"""
