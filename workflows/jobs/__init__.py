"""The jobs of the controller, written as workflows.

reclaim                 release the addresses of Pods that are gone: the job follows Pods, and scans
autopools               the pools of applications, each as large as its application requests
retirement              pools and subnets that are deleted once their claims have ended
quarantine              addresses that a conflicting host uses, probed until the host is silent
node_drain              nodes that are drained before their virtual functions change
archive                 keep the live log below its limit and the archive within its retention
provider                addresses that a network provider binds
job_host.py             a worker for all of these inside a controller
required_executions.py  executions that must run, started and signalled by the leader
record_lookup.py        state of Pods, Nodes and StatefulSets without Kubernetes
shard_writers.py        the log writers of jobs with many executions
activity_options.py     time limits of the steps of jobs; texts for times and failures
"""
