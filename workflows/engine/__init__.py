"""The durable engine: executions, their history and their owners, kept in the key-value store.

store/          keys, records, sessions, histories: what lies in the store, and who may write it
run/            one run: start, messages, workflow tasks, effects, resets, completion
worker/         one process: shards, ownership, activity attempts, deadlines, retention
client/         start, signal, query, update, cancel, terminate, reset, list, describe
clock.py        wall time for records, monotonic time for waits
telemetry.py    metrics and spans under Temporal's names

The store is all that the engine knows of the world; nothing here knows what an address is.
"""
