"""Handlers of requests, the same for every server.

add_handler.py          ADD: allocates addresses
conflict_probe.py       probes them on the link first, where conflict detection is on
pool_wait.py            waits for an automatic pool
provider_binding.py     waits for a network provider
delete_handler.py       DEL: releases them
withdrawal_handler.py   releases addresses that are in use elsewhere
check_handler.py        CHECK: compares them with etcd
gc_handler.py           GC: releases what the runtime no longer lists
missing_attachments.py  when an attachment that is not listed may be released
status_handler.py       STATUS: whether an ADD can succeed
coordinator_handler.py  the coordinator's commands, in worker threads
"""
