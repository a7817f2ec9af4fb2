"""Addresses that a network provider has to bind: its API, and the workflow that keeps promises.

    wire.py                 requests to the provider and its responses
    client.py               the HTTP client: deadlines, what a failure means
    values.py               arguments and results of the workflow's activities
    activities.py           one call each, and one entry in the books each
    binding.py              the workflow: allocate after our claim, release before our release
    provider_dispatcher.py  starts an execution for each binding that an agent requests

See docs/reference/http-api.md, "Network provider".

Agents speak to nobody here: they write a binding (core/allocation/bindings.py) and follow it.
Nothing stays bound without a claim, and no claim stays without a bind or its release under way.
"""
