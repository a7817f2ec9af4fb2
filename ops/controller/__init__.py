"""The process ``orbweaver-controller``; one of its replicas leads.

    main.py         the entry point: daemon or hook
    daemon.py       options, settings, event loop, signals, exit codes
    hooks.py        commands that the chart's hooks run
    settings.py     settings of conf.yml and environment variables
    controller.py   creates, starts and stops the parts of a replica
    link_prober.py  probes whether another host on a link uses a quarantined address
    observer.py     polls lag, leader, scan and etcd
    forecaster.py   forecasts when pools and subnets will be full
    health.py       /livez and /readyz
    metrics.py      metrics for Prometheus
    job_metrics.py  the metrics of the jobs

Pods do not depend on controllers (I8 of docs/contributing/architecture.md): without a controller
ADD and DEL work, but reports are not updated.
"""
