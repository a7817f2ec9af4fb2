"""Metrics of RDMA devices.

See docs/reference/metrics.md, and docs/reference/networks.md, "RDMA metrics".

rdma_ports.py       ports of RDMA devices, and Pods with RDMA devices
counter_reader.py   reads counters from RDMA netlink, drivers and /sys
counter_samples.py  converts counters to samples as Prometheus text (pure)
counter_help.py     the help texts of the known counters
rdma_exposition.py  reads the counters for each scrape, with a time limit
netns_mode.py       sets whether namespaces share RDMA devices

Import counter_*.py and rdma_exposition.py only if RDMA metrics are enabled.
"""
