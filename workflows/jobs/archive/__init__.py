"""Archiving: the live log is kept under its bound, the archive within its retention.

pace        when to look next  (pure)
archive     the workflow: look, seal what is due, give up what is too old, wait
activities  one look, one seal, one prune
"""
