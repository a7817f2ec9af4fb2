"""Reclaiming: addresses that nobody uses any more come back, on evidence.

scan         the workflow of the cluster: look at all claims, release, wait, look again
scanning     its activities: one look at everything, one chunk of releases
books        what a look has found, kept in the store and named by reference
pod          the workflow of one Pod: wait for its time, look, release
resolving    its activity
listening    news of Pods, and the executions they begin
releasing    the releases of both, made and counted
standing     how reclaiming stands, for probes and scrapes
facts        where it gets its knowledge of Pods
records      the same without Kubernetes
"""
