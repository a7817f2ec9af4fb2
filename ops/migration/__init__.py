"""Plans the migration of a cluster from Spiderpool, and makes the values for Orbweaver's chart.

``facts_reader`` reads ``facts`` from the API server; ``migration_plan`` and ``chart_values`` are
pure. Nothing here writes to a cluster.
"""
