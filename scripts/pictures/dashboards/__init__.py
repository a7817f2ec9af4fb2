"""Draws each dashboard of ``ops/monitoring/dashboards`` as a PNG file in ``docs/images/``.

    .venv/bin/python -m scripts.pictures.dashboards [SECONDS]

The program needs root and the packages of ``scripts/setup.sh dev``. Prometheus scrapes a laboratory
(``ops.lab``) for some minutes; then the queries of each panel are evaluated and drawn, without
Grafana. RDMA counters are synthetic (``rdma_counters.py``), so that no RDMA device is needed.

``panels.py`` reads dashboards and rejects panels that cannot be drawn; ``laboratory_run.py`` makes
the data; ``drawing.py`` draws.
"""
