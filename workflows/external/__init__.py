"""Addresses that a network provider has to bind: its API, and the workflow that keeps promises.

    wire.py        what is said to the provider, and what it answers (docs/reference/http-api.md,
    "Network provider") client.py      the HTTP client: deadlines, what a failure means values.py
    what the workflow is told and answers activities.py  one call each, and one entry in the books
    each binding.py     the workflow: allocate after our claim, release before our release
    dispatching.py who leads hears what agents ask for, and begins the executions

Agents speak to nobody here: they write a binding (core/service/bindings.py) and follow it.
Nothing stays bound without a claim, and no claim stays without a bind or its release under way.
"""
