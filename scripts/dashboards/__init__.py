"""Generates the RDMA dashboards as JSON for Grafana.

board.py   panels and dashboards as Grafana's JSON
rdma.py    the four RDMA dashboards: cluster, node, Pod, workload

``python -m scripts.dashboards`` writes them; with ``--check`` it only compares.
"""
