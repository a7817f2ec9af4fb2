"""Certificates that we make ourselves: of the webhooks, and of an embedded etcd.

authority.py   one authority, what it issues, how long it lasts        (no I/O)
rotation.py    what a Secret with certificates should become           (no I/O)
certificate_keeper.py     the webhooks': one Secret for all replicas, rotated by any of them
members.py     etcd's: made once by a Job of the chart, and renewed by later ones

The rest of the product knows files only: a mounted Secret and one of ours look the same.
"""
