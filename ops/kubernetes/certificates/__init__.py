"""Certificates that Orbweaver issues itself: for the webhooks, and for an embedded etcd.

authority.py            an authority, and the certificates that it issues (no I/O)
rotation.py             the next state of a Secret with certificates      (no I/O)
certificate_keeper.py   the webhooks' certificate: one Secret, rotated by any replica
members.py              etcd's certificates: issued and renewed by a Job of the chart

All other parts read certificates from files, which can also be a mounted Secret of the user.
"""
