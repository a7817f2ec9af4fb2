"""Metrics of RDMA devices.

See docs/reference/metrics.md, docs/reference/networks.md, "RDMA metrics".

values.py     what is read of devices, and what is known of the Pods that have them
counter_reader.py    reading it: RDMA's netlink, drivers, /sys
samples.py    from there to names, labels, numbers and their text (pure)
counter_help.py      what the known counters count
rdma_exposition.py  read anew for every scrape, within bounds

Imported only where RDMA metrics are switched on.
"""
