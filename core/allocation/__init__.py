"""Claim and release addresses; each request becomes one transaction in etcd.

Claims
    add_request.py         the request of one ADD
    allocator.py           claims the addresses of an ADD
    allocation_attempt.py  the tries of an ADD on one snapshot of the configuration
    address_finder.py      searches free addresses by reading etcd
    free_addresses.py      lists of free addresses of nearly full pools
    claims_in_flight.py    addresses that requests of this process are claiming now
    assigner.py            claims addresses that the caller names, such as lost fixed addresses
    cooldown.py            keeps released addresses unclaimed for a while
    allocation_limit.py    the limit of claims in a pool
    refusal_recorder.py    writes refused ADDs to the log
Releases
    releaser.py            releases endpoints and single claims
    handover.py            has a network provider unbind addresses before their release
Network provider
    bindings.py            the state of the addresses that a provider binds
    provider_choices.py    the MAC addresses and VLANs that the provider chose
    provider_settings.py   the URL, TLS settings and timeout of the provider
Shared
    proposals.py           builds the transaction of an event: writes and guards
    pool_requests.py       requests for automatic pools, and reports about automatic pools
    takeover.py            claims the addresses that another IPAM has allocated
    guid_registry.py       assigns and releases the GUIDs of a node's virtual functions
"""
