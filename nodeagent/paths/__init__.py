"""The way of packets between a Pod and somebody, as the kernel would send them now.

    asking.py    one stack's routes, rules, links and neighbours; what it would do with a packet
    walking.py   from stack to stack: the way there, the way back, the way of marked answers
    finding.py   which network namespace a Pod of this node has

Nothing is sent and nothing is changed: every answer is the kernel's own to a question about a
packet. What netfilter would do to it nobody can be asked.
"""
