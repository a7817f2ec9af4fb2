"""Reclaim, the pure part: which addresses are released, on what evidence, and why others are not.

    settings        settings and their environment variables
    cluster         facts about Pods, Nodes and owners, and which listing is trusted
    deadlines       which change of a Pod starts a deadline
    decision_table  the decision table of a scan, for one subject
    evidence        observations and reports: two observations, or one report (I6)
    reclaim_plan    from the whole state to steps, with a reason for everything that stays

See docs/reference/reclaim-rules.md, "Settings", "Deadlines" and "Scan".

Nothing here releases an address; ``core.allocation.releaser`` carries out the steps.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""
