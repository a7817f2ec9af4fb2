"""The process ``orbweaver-controller``: projector, archive, metrics; one replica leads.

    main.py         the entry point: daemon or hook
    daemon.py       options, settings, event loop, signals, exit codes
    hooks.py        commands that the chart's hooks run
    settings.py     settings of conf.yml and environment variables
    controller.py   the parts, and how they start and end
    link_prober.py  probes on a link whether another host uses a quarantined address
    observer.py     polls lag, leader, scan and etcd
    health.py       /livez and /readyz
    metrics.py      metrics for Prometheus; job_metrics.py: those of the jobs

Pods do not depend on it (I8): without a controller reports are not updated; ADD and DEL work.
"""
