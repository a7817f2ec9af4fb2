"""The coordinator: a Pod's traffic with its node, its Services and its NICs, set up in the kernel.

``stack_reader`` gathers facts, ``attachment_plan`` turns them into netlink requests without any
I/O, ``engine`` applies those in as few sends as possible, and takes back what a failure has left
half done.
Rules: docs/reference/coordinator.md; pictures: docs/concepts/datapath.md.
"""
