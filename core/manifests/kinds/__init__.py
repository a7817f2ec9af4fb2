"""The fields of every kind we know, as typed structs: one model for reading and for the CRDs.

    fields.py          how a field is described, and what several kinds have in common
    addresses.py       texts that hold addresses, with the rules one text can be judged by
    pools.py           SpiderIPPool, SpiderSubnet and SpiderReservedIP
    endpoints.py       SpiderEndpoint
    coordinators.py    SpiderCoordinator
    multus_configs.py  SpiderMultusConfig
    records.py         Pod, Namespace, Node and the built-in applications

See docs/reference/custom-resources.md.

A description is what ``kubectl explain`` prints. Rules are CEL and only sharpen: what they let
through is judged by ``core.domain.configuration.decisions`` all the same, so they never have to be
complete, and they never refuse what the domain accepts.
"""
