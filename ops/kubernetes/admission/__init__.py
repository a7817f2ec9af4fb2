"""Admission webhooks: the API server calls them before it stores one of our objects.

See docs/reference/admission.md.

    reviews.py          requests, responses and patches
    mutation.py         defaults of pools, subnets and reservations
    networks.py         defaults and rules of coordinators and networks
    validation.py       rules of pools, subnets and reservations: dry runs of the commands
    admitter.py         admits pools and subnets one at a time
    pods.py             networks, devices and slots of new Pods, behind a switch
    webhook_server.py   HTTPS, with certificates that are reloaded when they change
    configurations.py   the webhook configurations

Pods do not depend on these webhooks (pods.py is off by default). Deletions and changes of metadata
are allowed before anything is read.
"""
