"""Reclaim: release the addresses of deleted Pods, on evidence.

pod              the workflow of one Pod: wait for its deadline, release; and the listener that
                 starts it after a change of the Pod
scan             the workflow of the cluster: check all claims, release, wait; its status
scan_activities  the activities of the scan: one scan of all claims, one chunk of releases
scan_states      the observations and planned releases of a scan, stored and named by reference
reclaim_context  the source of Pod and Node state, the clocks and the releases, for both workflows
"""
