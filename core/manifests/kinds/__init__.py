"""The fields of every supported kind, as typed structs: for the parser and for the CRDs.

    fields.py          how a field is described, and what several kinds have in common
    addresses.py       fields with addresses, and their CEL rules
    pools.py           SpiderIPPool, SpiderSubnet and SpiderReservedIP
    endpoints.py       SpiderEndpoint
    coordinators.py    SpiderCoordinator
    multus_configs.py  SpiderMultusConfig
    records.py         Pod, Namespace, Node and the built-in applications
    services.py        Service and EndpointSlice
    sriov.py           SriovNetworkNodePolicy and SriovNetworkNodeState

See docs/reference/custom-resources.md.

``kubectl explain`` prints the descriptions. CEL rules are an early check in the API server: they
do not refuse what ``core.domain.configuration.decisions`` accepts. They need not be complete,
because ``decisions`` checks every object.
"""
