"""The path of packets between a Pod and another address, as the kernel routes them now.

    route_lookup.py  routes, rules, links and neighbours of one network namespace
    path_trace.py    from one namespace to the next: to the destination, back, and marked replies

No packet is sent and nothing is changed: each result is a route lookup of the kernel. The kernel
has no such lookup for netfilter, so the effect of netfilter is not shown.
"""
