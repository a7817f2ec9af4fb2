"""Counters of RDMA devices, for who scrapes the agent (spec/api.md 6, spec/datapath.md 7.1).

values.py     what is read of devices, and what is known of the Pods that have them
reading.py    reading it: RDMA's netlink, drivers, /sys
samples.py    from there to names, labels, numbers and their text (pure)
words.py      what the known counters count
exporting.py  read anew for every scrape, within bounds

Imported only where RDMA metrics are switched on.
"""
