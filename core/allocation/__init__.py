"""Claims and releases: one path for each, from a request to one transaction in etcd.

Claims
    add_request.py          one ADD, as every step of its path reads it
    allocator.py            from facts and a request to claimed addresses
    allocation_attempt.py   one round: a decision on one snapshot, and what its failure teaches
    address_finder.py       exact search for free addresses, by reading etcd
    free_addresses.py       lists of free addresses of nearly full pools
    claims_in_flight.py     addresses that requests of this process are claiming now
    assigner.py             claims of named addresses: assigned, or lost by a fixed endpoint
    cooldown.py             released addresses are not claimed again for a while
    record_limit.py         SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS
Releases
    endpoint_writer.py      reads an endpoint and its claims, decides, commits: the steps of each;
                            the endpoints whose claims this process has in memory
    releaser.py             releases of endpoints (DEL, GC, operators), and of named claims (steps
                            of a reclaim, claims that a network provider has unbound)
    handover.py             releases of endpoints that a network provider has bound
Network provider
    bindings.py             what agents request of a provider
    provider_choices.py     the MAC addresses and VLANs that it chose
    provider_settings.py    the provider's address, credentials and limits
Shared
    proposals.py            from an event to a transaction: keys and guards
    pool_requests.py        requests for automatic pools, and their answers
    takeover.py             carries out a plan that takes over another IPAM's addresses
"""
