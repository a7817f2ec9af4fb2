"""Reclaim: decide which addresses are released, with the evidence, and why others are kept. Pure.

    settings        settings and their environment variables
    decision_table  which change of a Pod starts a deadline; the decision table of a scan
    evidence        the state of the cluster, and which observations are enough to release
    reclaim_plan    the steps for the whole state, with a reason for every address that is kept

See docs/reference/reclaim-rules.md, "Settings", "Deadlines" and "Scan".

``core.allocation.releaser`` carries out the steps. Absence of evidence releases nothing (I6).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""
