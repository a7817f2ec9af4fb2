"""A cluster of simulated nodes over one real etcd.

    plan.py      names of nodes, racks, Pods and pools: plain values
    node.py      one node: the agent's own client, writer, view and allocator
    process.py   hundreds of nodes in one process, which carries out orders
    fleet.py     the processes, seen from the one that measures
    incidents.py what happens to the cluster: pools change, Pods start, a rack is lost
    judging.py   the checks of the log and the state keys afterwards
    usage.py     the resources that etcd and the processes have used

Left out of an agent are sockets, CNI and the kernel; everything between a request and etcd is the
product's own. No code here chooses or frees an address.
"""
