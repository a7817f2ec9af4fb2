"""Addresses that a network provider binds: its API, and the workflow that binds and releases them.

    client.py              the client of the provider's HTTP API
    activities.py          requests to the provider, and records in endpoints and claims
    binding.py             the workflow: bind after the claim, unbind before the claim is released
    binding_dispatcher.py  starts an execution for each binding that an agent requests

See docs/reference/http-api.md, "Network provider".

Agents do not use this package: they write a binding (core/allocation/bindings.py) and follow its
state. An address is claimed before it is bound. Agents and reclaim release its claim after it is
unbound. If a user releases the claim, the address is unbound afterwards.
"""
