"""The coordinator: routes a Pod's traffic to its node, to Services, and over several NICs.

``stack_reader`` reads the network stacks, ``attachment_plan`` computes netlink requests without
I/O, ``attachment_engine`` applies them with few system calls, and reverts them after a failure.
Rules: docs/reference/coordinator.md; pictures: docs/concepts/datapath.md.
"""
