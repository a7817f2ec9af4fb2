"""Quarantine: an address that a conflicting host uses is probed, and returned when it is silent.

prober.py      the interface of a prober
schedule.py    when to probe again, and when an address is returned (pure)
probe.py       the workflow of one address, and which addresses require one
activities.py  check the quarantine, probe the address, return it
"""
