"""Netlink: a namespace's links, addresses, routes, rules and neighbours, read and changed.

A ``Visitor`` opens a ``Session`` in a ``Namespace``; ``requests`` are what can be asked for,
``values`` what is answered. Sessions are used from worker threads, never from the event loop's.
"""
