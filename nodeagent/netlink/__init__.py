"""Netlink: a namespace's links, addresses, routes, rules and neighbours, read and changed.

A ``NetnsExecutor`` opens a ``NetlinkSession`` in a ``NetworkNamespace``; ``requests`` builds the
messages, ``replies`` reads the kernel's answers as ``values``. Use sessions in worker threads, not
in the event loop's thread.
"""
