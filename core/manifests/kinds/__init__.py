"""The fields of every kind we know, as typed structs: one model for reading and for the CRDs.

    fields.py          how a field is described, and what several kinds have in common addresses.py
    texts that hold addresses, with the rules one text can be judged by pools.py
    SpiderIPPool, SpiderSubnet and SpiderReservedIP (docs/reference/custom-resources.md,
    "SpiderIPPool", "SpiderSubnet" and "SpiderReservedIP") endpoints.py       SpiderEndpoint (1.4)
    coordinators.py    SpiderCoordinator (1.5) multus_configs.py  SpiderMultusConfig (1.6)
    records.py         Pod, StatefulSet, Namespace and Node: what is read of them

A description is what ``kubectl explain`` prints. Rules are CEL and only sharpen: what they let
through is judged by ``core.domain.decisions`` all the same, so they never have to be complete, and
they never refuse what the domain accepts.
"""
