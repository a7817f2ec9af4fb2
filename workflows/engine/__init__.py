"""The durable engine: executions, their histories and their owners, in the key-value store.

store/          keys, records, sessions, histories: what is stored, and who may write it
run/            one run: start, messages, workflow tasks, commands, resets, timers, activities
worker/         one process: shards, ownership, activity attempts, retention
client/         start, signal, query, update, cancel, terminate, reset, list, describe
clock.py        wall time for records, monotonic time for waits, and the deadlines of a worker
telemetry.py    metrics and spans under Temporal's names; telemetry_interceptors.py puts them
                around client calls and activities

The engine depends on the key-value store alone, not on addresses.
"""
