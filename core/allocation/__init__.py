"""Claims and releases: one path for each, from a request to one transaction in etcd.

Claims
    add_request.py          one ADD, as every step of its path reads it
    allocator.py            from facts and a request to claimed addresses
    allocation_attempt.py   one round: a decision on one snapshot, and what its failure teaches
    address_finder.py       exact search for free addresses, by reading etcd
    free_addresses.py       lists of free addresses of nearly full pools
    claims_in_flight.py     addresses that requests of this process are claiming now
    assigner.py             claims of named addresses
    cooldown.py             released addresses rest before they are claimed again
    record_limit.py         SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS
Releases
    releaser.py             ends the claims of an endpoint
    reclaimer.py            one step of a reclaim plan
    endpoint_claims.py      endpoints whose claims this process knows without reading
    handover.py             releases of endpoints that a network provider has bound
External binding
    bindings.py, binder.py  what agents request of a provider and what it chose
    provider_settings.py    the provider's address, credentials and limits
    retriever.py            a fixed endpoint passes to the next Pod of its name
Shared
    proposals.py            from an event to a transaction: keys and guards
    pool_requests.py        requests for automatic pools, and their answers
    observer.py             one process with its wall clock and its monotonic clock
    takeover.py             carries out a plan that takes over another IPAM's addresses
"""
