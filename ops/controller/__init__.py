"""The process ``orbweaver-controller``; one of its replicas leads.

    main.py         the entry point: daemon or hook
    daemon.py       event loop, signals, exit codes
    hooks.py        commands that the chart's hooks run
    settings.py     conf.yml and environment variables
    controller.py   creates, starts and stops the parts of a replica
    link_prober.py  probes quarantined addresses
    observer.py     polls lag, leader, scan and etcd
    forecaster.py   forecasts when pools and subnets will be full
    health.py       /livez and /readyz
    metrics.py      Prometheus metrics
    job_metrics.py  metrics of the jobs

ADD and DEL work without a controller (I8 of docs/contributing/architecture.md).
"""
