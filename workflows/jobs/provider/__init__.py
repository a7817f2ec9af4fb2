"""Addresses that a network provider binds: its API, and the workflow that binds and releases them.

    client.py              the provider's HTTP API and its client
    activities.py          requests to the provider, and records in endpoints and claims
    binding.py             the workflow: bind after the claim, release before the claim is released
    binding_dispatcher.py  starts an execution for each binding that an agent requests

See docs/reference/http-api.md, "Network provider".

Agents do not use this package: they write a binding (core/allocation/bindings.py) and follow it.
A bound address always has a claim, and a claim keeps a bound address until its release begins.
"""
