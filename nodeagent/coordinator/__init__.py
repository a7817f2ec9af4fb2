"""The coordinator: sets up a Pod's traffic with its node, with Services and over several NICs.

``stack_reader`` reads the network stacks, ``attachment_plan`` computes netlink requests without
I/O, ``engine`` applies them in as few sends as possible and reverts them after a failure.
Rules: docs/reference/coordinator.md; pictures: docs/concepts/datapath.md.
"""
