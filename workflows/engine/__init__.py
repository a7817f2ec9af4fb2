"""The durable engine: executions, their history and their owners, kept in the key-value store.

What lies there
    keys.py             where things lie; which shard an execution belongs to
    records.py          what lies there: heads, messages, attempts, replies
    history_reader.py   heads and histories, read
Who may write
    session.py          one process's lease and fence
    committer.py        guarded proposals under the fence, settled lost answers
    ownership.py        which worker owns which shard, takeover, fair shares
What an execution does
    start_run.py        how a run begins (pure)
    intake.py           messages, results and due timers become history events (pure)
    effects.py          commands become history events and writes (pure)
    draft.py            one transaction in the making (pure)
    tasks.py            one workflow task: the interpreter and its decision
    execution.py        one execution: one workflow task at a time, one transaction each
    housekeeping.py     beside the code: its activities at work, the alarms of its timers
    calls.py            queries and updates, and their replies
    resets.py           a new run from a point of a history
Who does it
    shard.py            the executions of one shard; undeliverable.py: messages to no open run
    activities.py       attempts of a job (job.py): timeouts, heartbeats; slots.py: how many at once
    retries.py          whether a failed attempt is followed by another one, and when (pure)
    deadlines.py        one heap of all that is due; clock.py: time
    worker_context.py   what every execution of a worker needs
    worker.py           one process: session, shards, activities, retention
    retention.py        closed executions leave the store for archive files
Who asks for it
    client.py           start, signal, query, update, cancel, terminate, retry, reset, result
    client_session.py   how a client writes: a session opened when needed, and anew when lost
    call_results.py     waiting for the answer to a query or update
    completions.py      waiting for executions to close
    visibility.py       lists, descriptions, histories; telemetry.py: metrics and spans
What must hold
    head_projection.py  the head that a history leads to (pure)
    checker.py          what must hold of every history (pure)

The store is all that the engine knows of the world; nothing here knows what an address is.
"""
