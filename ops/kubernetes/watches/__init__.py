"""Watches and reads the API server for the jobs of a controller.

    collection.py        objects of one kind, watched or read from the API server
    pods.py              Pods of all nodes, indexed by the fields of claims
    owners.py            StatefulSets, VM instances, VMs and IPAMClaims
    suspects.py          plans which Pods and owners a reclaim scan must read (pure)
    api_server_lookup.py the state of Pods and owners for one reclaim scan (pure)
    facts.py             the facts for reclaim scans
    pending_changes.py   changes that a listener has not received yet
    applications.py      the applications that can have automatic pools
    custom_owners.py     third parties: owners of custom kinds
    cluster_watch.py     all watches of a controller

A watch may lag behind, so a watched object can only be a reason to keep an address. A reclaim scan
releases an address only on one of two proofs (I6 of docs/contributing/architecture.md): the watch
reported a deletion, or a read after the read of the claims found no object.
"""
