"""Kubernetes and the log: custom resources become commands, and what is refused is told.

    settings.py             whether and how
    resources.py            where our kinds are, and what of an object is read
    conditions.py           observations of an object, and Events
    objects.py              writes to custom resources: finalizers, derived fields, conditions
    translator_commands.py  commands, tried on the projection first
    object_finalizer.py     pools and subnets on their way out
    translator.py           the difference between custom resources and the log, closed
    reports.py              what status and SpiderEndpoints say
    reporter.py             the projection, written into custom resources
    attachments.py          SpiderMultusConfigs and their NetworkAttachmentDefinitions
    cidrs.py                where a cluster says which CIDRs its Pods and Services have
    coordinators.py         the status of the SpiderCoordinator
    admission/              the webhooks
    kubernetes_host.py      all of it inside a controller, while it leads

The log is the truth for addresses, the custom resources are the truth for what users want. A
deletion never frees an address: it stops new claims and waits for the last one to go.
"""
