"""Reads and changes links, addresses, routes, rules and neighbours of a namespace by netlink.

A ``NetnsExecutor`` opens a ``NetlinkSession`` in a ``NetworkNamespace``; ``requests`` encodes the
messages, ``replies`` decodes the kernel's answers to ``values``. Use sessions in worker threads,
not in the event loop's thread.
"""
