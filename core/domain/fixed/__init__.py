"""Fixed addresses, the pure part: those of StatefulSet replicas and VMs, across their Pods.

    kinds      whose addresses are fixed, by controller, by holder, by the settings
    owners     what the rules may know of StatefulSets and VMs, and what "gone" means
    validity   whether a fixed address is still wanted
    retrieval  what a stored endpoint is worth to the next Pod of its holder

See docs/reference/fixed-address-rules.md, "Wanted addresses" and "Retrieval".

DEL, the runtime's GC, ``orbctl`` and reclaiming all ask ``validity_of``: there is one rule, and
whoever does not know the owner keeps the address (I6). Nothing here fetches, claims or frees.
"""
