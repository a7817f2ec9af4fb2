"""The process ``orbweaver-controller``: projector, archive, metrics; one replica leads.

    main.py         the entry point: daemon or hook
    daemon.py       options, settings, event loop, signals, exit codes
    hooks.py        commands that the chart's hooks run
    settings.py     what an operator decides
    controller.py   the parts, and how they start and end
    link_prober.py  asks on a link who uses a quarantined address
    observer.py     how far behind, who leads, how long the live log is: asked now and then
    health.py       /livez and /readyz
    metrics.py      what Prometheus scrapes; job_metrics.py what of it is about the jobs
    tracing.py      spans of the jobs

Pods need none of it (I8): without a controller reports stand still, ADD and DEL go on.
"""
