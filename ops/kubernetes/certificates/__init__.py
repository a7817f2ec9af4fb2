"""Certificates that the product issues itself: of the webhooks, and of an embedded etcd.

authority.py            an authority, and the certificates that it issues (no I/O)
rotation.py             the next state of a Secret with certificates      (no I/O)
certificate_keeper.py   the webhooks' certificate: one Secret, rotated by any replica
members.py              etcd's certificates: issued and renewed by a Job of the chart

The rest of the product reads files, which can also come from a mounted Secret of the user.
"""
