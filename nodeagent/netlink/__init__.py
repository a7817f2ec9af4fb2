"""Netlink: a namespace's links, addresses, routes, rules and neighbours, read and changed.

A ``NetnsExecutor`` opens a ``NetlinkSession`` in a ``NetworkNamespace``; ``requests`` are what can
be requested, ``values`` what the kernel returns. Sessions are used from worker threads, never from
the event loop's.
"""
