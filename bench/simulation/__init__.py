"""Simulates a cluster of many nodes on one real etcd.

    plan.py      names of nodes, racks, Pods and pools: plain values
    node.py      one node: the agent's own client, writer, view and allocator
    process.py   hundreds of nodes in one process, which executes orders
    fleet.py     starts these processes and sends orders
    incidents.py the incidents: pools change, Pods start, a rack is lost
    judging.py   checks the log and the state keys afterwards
    usage.py     the resources that etcd and the processes used

A simulated node has no sockets, CNI or kernel part of an agent. Everything between a request and
etcd is code of the product; no code here allocates or releases an address.
"""
