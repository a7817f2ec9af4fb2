"""Automatic pools: how many addresses an application gets from a SpiderSubnet, and in which pool.

Pure planning (docs/reference/automatic-pool-rules.md). ``requests`` reads a Pod template,
``pool_size`` counts, ``names`` names and labels, ``pool_plan`` makes one pool what it should be,
``application_plan`` does so for a whole application. Agents and controllers call the same
functions.
"""
