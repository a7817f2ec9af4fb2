"""Plans the migration of a cluster from Spiderpool, and makes the values for Orbweaver's chart.

``reader`` reads ``facts`` from the API server; ``plan`` and ``values`` are pure. Nothing here
writes to a cluster.
"""
