"""Claims and releases: one path for each, from a request to one transaction in etcd.

Claims
    add_request.py         the request of one ADD
    allocator.py           claims the addresses of an ADD
    allocation_attempt.py  the tries of an ADD on one snapshot of the configuration
    address_finder.py      searches free addresses by reading etcd
    free_addresses.py      lists of free addresses of nearly full pools
    claims_in_flight.py    addresses that requests of this process are claiming now
    assigner.py            claims named addresses: assignments, and lost claims of fixed addresses
    cooldown.py            released addresses are not claimed again for a while
    allocation_limit.py    SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS
    refusal_recorder.py    writes refused ADDs to the log
Releases
    releaser.py             reads an endpoint and its claims, decides, commits; releases of
                            endpoints (DEL, GC, operators), and of named claims (steps of a
                            reclaim, claims that a network provider has unbound)
    handover.py             releases of endpoints that a network provider has bound
Network provider
    bindings.py             the addresses that a provider binds, and their state
    provider_choices.py     the MAC addresses and VLANs that the provider chose
    provider_settings.py    the URL, TLS settings and timeout of the provider
Shared
    proposals.py            builds the transaction of an event: keys and guards
    pool_requests.py        requests for automatic pools, and reports about them
    takeover.py             carries out the takeover of another IPAM's addresses
    guid_registry.py        assigns and releases the GUIDs of a node's virtual functions
"""
