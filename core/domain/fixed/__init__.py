"""Fixed addresses, the pure part: those of StatefulSet replicas and VMs, across their Pods.

    owners     which Pods have fixed addresses; facts about StatefulSets and VMs; what "gone" means
    validity   whether a fixed address still has an owner
    retrieval  which addresses the next Pod of a holder gets back

See docs/reference/fixed-address-rules.md, "Wanted addresses" and "Retrieval".

DEL, the runtime's GC, ``orbctl`` and reclaim all call ``validity_of``: if the owner is unknown, the
address is kept (I6). Nothing here fetches, claims or releases.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""
