"""Admission webhooks: what the API server asks before it stores one of our objects.

See docs/reference/admission.md.

    reviews.py          the questions and answers, and patches
    mutation.py         what is filled in
    networks.py         the same, and the rules, for coordinators and networks
    admission_rules.py  the rules of pools, subnets and reservations: dry runs of the real commands
    pods.py             networks, devices and slots for new Pods, behind a switch
    webhook_server.py   HTTPS, with certificates that are read again when they change
    configurations.py   the objects that tell the API server to ask us

Pods never depend on them, and neither do deletions and changes of metadata: those are let through
before anything is read.
"""
