"""The fields of every supported kind, as typed structs: for the parser and for the CRDs.

    fields.py          descriptions of fields, and structs that several kinds share
    addresses.py       fields with addresses, and their CEL rules
    pools.py           SpiderIPPool, SpiderSubnet and SpiderReservedIP
    endpoints.py       SpiderEndpoint
    coordinators.py    SpiderCoordinator
    multus_configs.py  SpiderMultusConfig
    records.py         Pod, Namespace, Node and the built-in applications
    services.py        Service and EndpointSlice
    sriov.py           SriovNetworkNodePolicy and SriovNetworkNodeState

See docs/reference/custom-resources.md.

``kubectl explain`` prints the descriptions. CEL rules are an early check in the API server. They
must accept every object that ``core.domain.configuration.decisions`` accepts. They may accept more
objects, which ``decisions`` then rejects.
"""
