"""Handlers of the requests of the CNI servers and the HTTP API.

add_handler.py             ADD: allocates addresses
conflict_probe.py          probes the addresses of an ADD, if conflict detection is enabled
assigned_address_probe.py  probes the addresses of a NIC before the coordinator sets it up
pool_wait.py               waits for an automatic pool
provider_binding.py        waits for a network provider
delete_handler.py          DEL: releases addresses
withdrawal_handler.py      releases addresses that conflicting hosts use
check_handler.py           CHECK: compares the result of the ADD with etcd
gc_handler.py              GC: releases attachments that the runtime no longer lists
missing_attachments.py     decides whether an unlisted attachment has been deleted
status_handler.py          STATUS: reports whether an ADD can succeed
coordinator_handler.py     runs the coordinator's commands in worker threads
"""
