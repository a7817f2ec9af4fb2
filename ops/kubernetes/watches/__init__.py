"""Watches and reads the API server for the jobs of a controller.

    collection.py        objects of one kind, watched or read from the API server
    pods.py              Pods of all nodes, indexed by the fields of claims
    owners.py            StatefulSets, VM instances, VMs and IPAMClaims
    suspects.py          plans which Pods and owners a scan of claims must read (pure)
    api_server_lookup.py the ``ClusterLookup`` of one scan (pure)
    facts.py             the ``ReclaimFactsSource``
    pending_changes.py   changes that a listener has not received yet
    applications.py      the ``ApplicationsSource`` of automatic pools
    custom_owners.py     third parties: owners of custom kinds
    cluster_watch.py     all watches of a controller

A watch may lag behind, so a watched object can only be a reason to keep an address. An address is
released only after a watch reported a deletion, or after a read that followed the read of the
claims found no object (I6 of docs/contributing/architecture.md).
"""
