"""Admission webhooks: the API server calls them before it stores a custom resource of Orbweaver.

See docs/reference/admission.md.

    reviews.py             requests, responses and patches
    mutation.py            defaults of pools, subnets and reservations
    networks.py            defaults and rules of coordinators and networks
    validation.py          rules of pools, subnets and reservations: dry runs of the commands
    pending_admissions.py  admits pools and subnets one at a time
    pods.py                adds networks, devices and slots to new Pods; off by default
    webhook_server.py      HTTPS server, which reloads changed certificates
    configurations.py      the webhook configurations

Pods do not depend on these webhooks, unless the Pod webhook (pods.py) is on.
"""
