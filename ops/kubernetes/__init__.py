"""The controller in Kubernetes: custom resources become commands; status and Events are reported.

The main modules:

    translated_kinds.py     paths and fields of the custom resources
    translator.py           compares the custom resources with the log
    translator_commands.py  writes the translator's changes to the log
    object_finalizer.py     deletion of pools and subnets
    status_reporter.py      writes the projection into custom resources
    status_reports.py       the content of status and of SpiderEndpoints
    admission/              the webhooks
    certificates/           the certificate of the webhooks
    watches/                Pods, Nodes and applications for the workflows
    kubernetes_host.py      the tasks of a leading controller

The log is authoritative for addresses, the custom resources for the desired configuration. The
deletion of a pool never releases an address: the pool gets no new claims, and is deleted after
the last release.
"""
