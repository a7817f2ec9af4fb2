"""Retirement: a pool or subnet that was told to go is emptied by time and deleted.

words       orders, what is left, what became of it
vigil       what a retirement waits for: a word, the slow look, the deadline
pool        the workflow of one pool
subnet      the workflow of a subnet, the parent of its pools'
activities  one step towards the deletion, and the way back
notices     which executions there must be, from the projection
"""
