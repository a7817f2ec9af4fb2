"""Retirement: a retiring pool or subnet is deleted once its claims have ended.

retirement_values.py     requests, remaining claims, results
retirement_wait.py       the waits: for a signal, the next step, the deadline
pool.py                  the workflow of one pool
subnet.py                the workflow of one subnet, which starts those of its pools as children
activities.py            one step towards the deletion, and the reinstatement
required_retirements.py  the required executions, from the projection
"""
