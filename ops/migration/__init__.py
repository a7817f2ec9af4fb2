"""Moving a cluster from Spiderpool: what is there, what it means, and the values for our chart.

``reader`` asks the API server and returns ``facts``; ``plan`` and ``values`` are pure. Nothing here
writes to a cluster.
"""
