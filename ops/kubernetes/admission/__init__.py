"""Admission webhooks: the API server calls them before it stores an object of ours.

See docs/reference/admission.md.

    reviews.py          requests, responses and patches
    mutation.py         defaults of pools, subnets and reservations
    networks.py         defaults and rules of coordinators and networks
    validation.py       rules of pools, subnets and reservations: dry runs of the commands
    admitter.py         admits pools and subnets one at a time
    pods.py             adds networks, devices and slots to new Pods; off by default
    webhook_server.py   HTTPS server, which reloads changed certificates
    configurations.py   the webhook configurations

Pods do not depend on these webhooks, except with pods.py. Updates that change neither the spec nor
a label of ours are allowed without a read.
"""
