"""The path of packets between a Pod and another address, as the kernel routes them now.

    route_lookup.py  routes, rules, links and neighbours of one network namespace; its answers
    path_trace.py    from one namespace to the next: to the destination, back, and marked replies

Nothing is sent and nothing is changed: every answer is the kernel's own, to a question about a
packet. What netfilter does to a packet cannot be asked.
"""
