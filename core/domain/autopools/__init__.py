"""Automatic pools: how many addresses an application gets from a SpiderSubnet, and in which pool.

Pure planning (docs/reference/automatic-pool-rules.md). ``applications`` describes applications,
``subnet_annotations`` parses a Pod template, ``pool_size`` computes sizes, ``pool_names`` has names
and labels, ``pool_plan`` plans one pool, and ``application_plan`` those of an application. Agents
and controllers call the same functions.
"""
