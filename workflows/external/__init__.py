"""Addresses that a network provider has to bind: its API, and the workflow that keeps promises.

    wire.py        what is said to the provider, and what it answers (spec/api.md 8.5)
    client.py      the HTTP client: deadlines, what a failure means
    values.py      an order: claims, addresses, NICs; which NICs take part
    activities.py  one call each, and one entry in the books each
    binding.py     the workflow: allocate after our claim, release before our release
    desk.py        for callers: bind and wait, give back and go

Nothing stays bound without a claim, and no claim stays without a bind or its release under way.
"""
