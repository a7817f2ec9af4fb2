"""Handlers of requests, which all servers use.

add_handler.py             ADD: allocates addresses
conflict_probe.py          probes the addresses of an ADD, if conflict detection is enabled
assigned_address_probe.py  probes the addresses of a NIC before the coordinator sets it up
pool_wait.py               waits for an automatic pool
provider_binding.py        waits for a network provider
delete_handler.py          DEL: releases addresses
withdrawal_handler.py      releases addresses that conflicting hosts use
check_handler.py           CHECK: compares the result of the ADD with etcd
gc_handler.py              GC: releases attachments that the runtime no longer lists
missing_attachments.py     when an attachment that is not listed may be released
status_handler.py          STATUS: whether an ADD can succeed
coordinator_handler.py     the coordinator's commands, in worker threads
"""
