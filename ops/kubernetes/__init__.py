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
    pool_status_writer.py              writes the status of pools, subnets and reservations
    network_attachment_definitions.py  the NetworkAttachmentDefinitions of SpiderMultusConfigs
    cidrs.py                           finds the CIDRs of a cluster's Pods and Services
    coordinator_status.py              the status of the SpiderCoordinator
    ipam_claim_status.py               the status of IPAMClaims
    node_drainer.py                    cordons and drains nodes
    leader_lease.py                    reports the leader in a Lease
    cleanup.py                         removes webhooks and finalizers after an uninstallation
    default_objects.py                 creates the default objects of a new installation
    admission/                         the webhooks
    certificates/                      the certificate of the webhooks
    watches/                           Pods, Nodes and applications for the workflows
    kubernetes_host.py                 the tasks of a leading controller

The log is authoritative for addresses, the custom resources for the desired configuration. The
deletion of an object never releases an address: it stops new claims and waits for the last release.
"""
