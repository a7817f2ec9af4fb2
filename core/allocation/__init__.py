"""Claim and release addresses; each request becomes one transaction in etcd.

``allocator`` claims for ADD, ``releaser`` releases for DEL and GC, ``proposals`` builds their
transactions. ``bindings``, ``handover`` and ``provider_*`` serve a network provider, which binds
addresses to NICs outside the cluster.
"""
