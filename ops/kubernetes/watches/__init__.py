"""Watches and reads the API server for the jobs of a controller.

    collection.py        watched and read objects of one kind
    pods.py              Pods of all nodes, indexed by the fields of claims
    owners.py            StatefulSets, VM instances, VMs and IPAMClaims
    suspects.py          plans which Pods and owners a scan must read (pure)
    api_server_lookup.py the state of Pods and owners for one scan (pure)
    facts.py             the facts for reclaim scans
    pending_changes.py   changes that a listener has not received yet
    applications.py      the applications that can have automatic pools
    custom_owners.py     third parties: owners of custom kinds
    cluster_watch.py     all watches of a controller

A watched object may be stale, so it can only be a reason to keep an address (I6 of
docs/contributing/architecture.md). ``facts`` names the two proofs for a release.
"""
