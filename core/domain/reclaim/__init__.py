"""Reclaiming, the pure part: which addresses may be taken back, on what evidence, and why not.

    settings   what operators may change (docs/reference/reclaim-rules.md, "Settings") cluster
    what the rules may know of Pods, Nodes and owners, and how far to trust it tracing    which
    event about a Pod starts a deadline (docs/reference/reclaim-rules.md, "Deadlines") judging
    the decision table of a scan (docs/reference/reclaim-rules.md, "Scan"), for one subject evidence
    what was seen, when, how often: two observations, or one report (I6) planning   from the whole
    state to steps, and a reason for everything that stays

Nothing here frees an address; ``core.service.reclaimer`` carries out one step at a time.
"""
