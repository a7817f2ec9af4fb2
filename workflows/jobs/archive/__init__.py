"""Archiving: keeps the live log below its limit and the archive within its retention.

archive.py     the workflow: check, archive segments that are due, wait
prune.py       the workflow of a schedule: delete old archive files
activities.py  check the live log, archive segments, delete archive files
"""
