"""Archiving: keeps the live log below its limit and the archive within its retention.

archive.py     the workflow: check, seal what is due, prune what is too old, wait
activities.py  one check, one seal, one prune
"""
