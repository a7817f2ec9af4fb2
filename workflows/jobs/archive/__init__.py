"""Archiving: keeps the live log below its limit and the archive within its retention.

archive.py     the workflow: check, seal what is due, wait
prune.py       the workflow of a schedule: prune what is too old
activities.py  one check, one seal, one prune
"""
