"""Automatic pools: how many addresses an application gets from a SpiderSubnet, and in which pool.

Pure planning (docs/reference/automatic-pool-rules.md). ``requests`` reads a Pod template,
``sizing`` counts, ``naming`` names and labels, ``planning`` makes one pool what it should be,
``reconciling`` does so for a whole application. Agents and controllers call the same functions.
"""
