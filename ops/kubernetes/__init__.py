"""The controller in Kubernetes: custom resources become commands; status and Events are reported.

    settings.py                        settings of the integration
    translated_kinds.py                paths and fields of the custom resources
    conditions.py                      conditions of an object, and Events
    custom_resource_writer.py          writes finalizers, derived fields and Events
    translator_commands.py             applies the commands of the translator
    object_finalizer.py                deletion of pools and subnets
    translator.py                      applies the custom resources to the log
    status_reports.py                  the content of status and of SpiderEndpoints
    status_reporter.py                 writes the projection into custom resources
    pool_status_writer.py              the only writer of the status of an object
    network_attachment_definitions.py  the NetworkAttachmentDefinitions of SpiderMultusConfigs
    cidrs.py                           finds the CIDRs of a cluster's Pods and Services
    coordinator_status.py              the status of the SpiderCoordinator
    ipam_claim_status.py               the status of IPAMClaims
    node_drainer.py                    cordons and drains nodes
    leader_lease.py                    reports the leader in a Lease
    cleanup.py, default_objects.py     jobs of the chart: after uninstallation, after installation
    admission/                         the webhooks
    certificates/                      the certificate of the webhooks
    watches/                           Pods, Nodes and applications for the workflows
    kubernetes_host.py                 the tasks of a leading controller

The log is authoritative for addresses, the custom resources for the desired configuration. The
deletion of an object never releases an address: it stops new claims and waits for the last release.
"""
