"""Simulates a cluster of many nodes on one real etcd.

    plan.py      names of nodes, racks, Pods and pools: plain values
    node.py      one node: the agent's own client, writer, view and allocator
    process.py   hundreds of nodes in one process, which serves requests on standard input
    fleet.py     starts these processes and sends requests
    incidents.py the incidents: pools change, Pods start, a rack is lost
    consistency.py  checks the log and the state keys afterwards
    run.py       one simulation: all incidents, measured, and the check
    usage.py     the resources that etcd and the processes used

A simulated node lacks an agent's sockets, CNI handlers and network code. All code between an ADD
and etcd is that of the product; no code here allocates or releases an address.
"""
