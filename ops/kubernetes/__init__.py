"""Kubernetes and the log: custom resources become commands; status and Events report back.

    settings.py             whether and how
    resources.py            where our kinds are, and what of an object is read
    conditions.py           conditions of an object, and Events
    objects.py              writes to custom resources: finalizers, derived fields, Events
    translator_commands.py  commands, tried on the projection first
    object_finalizer.py     pools and subnets that are being deleted
    translator.py           makes the log agree with the custom resources
    reports.py              the content of status and of SpiderEndpoints
    reporter.py             writes the projection into custom resources
    status_writer.py        the status of an object: its only writer
    attachments.py          SpiderMultusConfigs and their NetworkAttachmentDefinitions
    cidrs.py                where a cluster says which CIDRs its Pods and Services have
    coordinators.py         the status of the SpiderCoordinator
    admission/              the webhooks
    kubernetes_host.py      all of it inside a controller, while it leads

The log is the truth for addresses, the custom resources are the truth for what users want. A
deletion never releases an address: it stops new claims and waits until the last one is released.
"""
