"""A picture of each dashboard of ``ops/monitoring/dashboards``, as PNG files in ``docs/images/``.

    .venv/bin/python -m scripts.pictures.dashboards [SECONDS]

It needs what ``scripts/setup.sh dev`` installs, and root. A laboratory (``ops.lab``) runs for some
minutes under a Prometheus; then the queries of every panel are evaluated and drawn. Grafana is not
involved. No machine here has RDMA devices: their counters are invented (``rdma_counters.py``) and
served in the text of the agent.

``panels.py`` reads dashboards and refuses what cannot be drawn; a test reads every dashboard.
``laboratory_run.py`` makes the data; ``drawing.py`` draws.
"""
