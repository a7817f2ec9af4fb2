"""The durable engine: executions, their history and their owners, kept in the key-value store.

    keys.py        where things lie; which shard an execution belongs to
    records.py     what lies there: heads, messages, attempts, archived executions
    session.py     one process's lease and fence
    committer.py   group commit of independent guarded proposals, settled lost answers
    ownership.py   which worker owns which shard, takeover, fair shares
    intake.py      messages, results and due timers become history events (pure)
    effects.py     commands become history events and writes (pure)
    execution.py   one execution: one workflow task at a time, one transaction each
    shard.py       the executions and timers of one shard
    activities.py  attempts: slots, timeouts, heartbeats
    retries.py     whether a failed attempt is followed by another one, and when (pure)
    worker.py      one process: session, shards, activities, retention
    answers.py     waiting for the answer to a query or update
    client.py      start, signal, query, update, cancel, terminate, retry, reset, list, result
    retention.py   closed executions leave the store for archive files
    checker.py     what must hold of every history

The store is all that the engine knows of the world; nothing here knows what an address is.
"""
