"""Kubernetes and the log: custom resources become commands; status and Events report back.

    settings.py             settings of the integration
    resources.py            paths and fields of the custom resources
    conditions.py           conditions of an object, and Events
    objects.py              writes to custom resources: finalizers, derived fields, Events
    translator_commands.py  commands, tried on the projection first
    object_finalizer.py     deletion of pools and subnets
    translator.py           makes the log agree with the custom resources
    reports.py              the content of status and of SpiderEndpoints
    reporter.py             writes the projection into custom resources
    status_writer.py        the status of an object: its only writer
    attachments.py          SpiderMultusConfigs and their NetworkAttachmentDefinitions
    cidrs.py                finds the CIDRs of a cluster's Pods and Services
    coordinators.py         the status of the SpiderCoordinator
    admission/              the webhooks
    kubernetes_host.py      the tasks of a leading controller

For addresses the log is authoritative, for desired configuration the custom resources are. The
deletion of an object never releases an address: it stops new claims and waits for the last release.
"""
