"""What the jobs of a controller know of the cluster: from objects of the API server to facts.

    collection.py       objects of one kind: as they were last seen, and as they are when asked
    pods.py             Pods of all nodes, found by what claims know of them
    owners.py           StatefulSets, VM instances and VMs
    suspects.py         what a look at claims has to ask about (pure)
    ledger_facts.py     what it was told (pure)
    facts.py            the source of reclaiming
    pending_changes.py  changes on their way to whoever listens
    applications.py     the source of automatic pools
    custom_owners.py    the kinds of owners that nobody knows beforehand
    cluster_watch.py    all of it inside a controller

What was seen may be old, and only keeps addresses. Nothing is freed but by what the API server has
reported, or has answered after the claims were read (I6).
"""
