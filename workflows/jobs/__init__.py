"""The jobs of the controller, written as workflows: what is done again and again, by whoever lives.

reclaim      the workflow of the cluster: look, release, wait, look again
scanning     its activities: one look at everything, one chunk of releases
books        what a look has found, kept in the store and named by reference
reclaim_pod  the workflow of one Pod: wait for its time, look, release
resolving    its activity
listening    news of Pods, and the executions they begin
releasing    its releases, made and counted
autopools    the workflow of one application: its automatic pools, until nothing is left to do
reconciling  its activity
dispatching  who wakes it
applications where automatic pools get their knowledge of applications
deletions    deleted records, read from the log
facts        where reclaiming gets its knowledge of Pods
records      the same without Kubernetes
retirement   pools and subnets that were told to go: emptied by time, then deleted
quarantine   addresses that a stranger uses: probed, and returned when they are silent
archiving    the live log kept under its bound, the archive within its retention
noticing     executions that must be there, begun and told by the leader
writers      who writes to the log for jobs with many executions
telling      how jobs tell times and failures
hosting      a worker for all of this inside a controller
"""
