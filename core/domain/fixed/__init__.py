"""Fixed addresses: StatefulSet replicas, VMs and IPAMClaims keep addresses when Pods change.

    fixed_address_owners  which Pods have fixed addresses; the state of their owners
    owner_validity        whether a fixed address still has an owner
    retrieval             which addresses the next Pod of a holder gets back
    ipam_claims           which NICs of a Pod use an IPAMClaim

See docs/reference/fixed-address-rules.md, "Wanted addresses" and "Retrieval".

DEL, the runtime's GC, ``orbctl`` and reclaim all call ``validity_of``. If the owner is unknown, the
address is kept (I6). Pure: the caller reads objects and changes claims.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""
