"""The facts about the cluster for the jobs of a controller, from objects of the API server.

    collection.py       objects of one kind: from a watch, and read from the API server
    pods.py             Pods of all nodes, indexed by the fields of claims
    owners.py           StatefulSets, VM instances and VMs
    suspects.py         which Pods and owners a scan of claims must read (pure)
    ledger_facts.py     the facts of one scan (pure)
    facts.py            the facts source of reclaiming
    pending_changes.py  changes that a listener has not received yet
    applications.py     the applications source of automatic pools
    custom_owners.py    third parties: owners of custom kinds
    cluster_watch.py    all watches of a controller

A watch may lag behind, so that what it shows can only keep an address. An address is released only
after the API server reported a deletion, or returned it in a read after the claims were read (I6).
"""
