"""Quarantine: probe addresses that conflicting hosts use; lift the quarantine of silent addresses.

prober.py      the interface of a prober
schedule.py    when to probe again, and when a quarantine is lifted (pure)
probe.py       the workflow of one address, and which addresses require one
activities.py  check the quarantine, probe the address, lift the quarantine
"""
