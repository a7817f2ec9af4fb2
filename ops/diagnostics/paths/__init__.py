"""The way of packets between a Pod and somebody, as the kernel would send them now.

    route_lookup.py    one stack's routes, rules, links, neighbours; what it would do with a packet
    path_trace.py      from stack to stack: the way there, the way back, the way of marked answers
    pod_namespaces.py  which network namespace a Pod of this node has

Nothing is sent and nothing is changed: every answer is the kernel's own to a question about a
packet. What netfilter would do to it nobody can be asked.
"""
