"""Reclaiming, the pure part: which addresses may be taken back, on what evidence, and why not.

    settings        what operators may change
    cluster         what the rules may know of Pods, Nodes and owners, and how far to trust it
    deadlines       which event about a Pod starts a deadline
    decision_table  the decision table of a scan, for one subject
    evidence        what was seen, when, how often: two observations, or one report (I6)
    reclaim_plan    from the whole state to steps, and a reason for everything that stays

See docs/reference/reclaim-rules.md, "Settings", "Deadlines" and "Scan".

Nothing here frees an address; ``core.allocation.reclaimer`` carries out one step at a time.
"""
