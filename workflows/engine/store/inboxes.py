"""Limits on the messages that wait for one execution, so that they cannot fill the store."""

from __future__ import annotations

from core.eventstore.kv import Get, KeyValueStore
from workflows.engine.store.keys import WorkflowKeys
from workflows.model.errors import LimitExceeded

INBOX_MESSAGES_MAX = 1_000
"""Messages that wait for one execution; above it signals, queries and updates are rejected."""

INBOX_URGENT_MAX = INBOX_MESSAGES_MAX + 100
"""The same for requests to cancel, terminate, retry or reset the execution."""


def count_inbox(keys: WorkflowKeys, workflow_id: str) -> Get:
    """Counts the messages to an id, and to ids that start with it and a slash."""
    return Get(*keys.inbox_of(workflow_id), count_only=True)


async def check_inbox(
    store: KeyValueStore, keys: WorkflowKeys, workflow_id: str, most: int = INBOX_MESSAGES_MAX
) -> None:
    """Raises LimitExceeded when ``most`` messages wait already, StoreUnavailable."""
    if (await store.read([count_inbox(keys, workflow_id)])).ranges[0].count < most:
        return
    found = (await store.read([Get(*keys.inbox_of(workflow_id), keys_only=True)])).ranges[0].kvs
    count = sum(keys.inbox_parts(kv.key)[1] == workflow_id for kv in found)
    if count >= most:
        raise LimitExceeded(
            f"{count} messages wait for workflow {workflow_id}, INBOX_MESSAGES_MAX is {most}: "
            "check with `orbctl workflow describe` whether a worker owns it, and what blocks it"
        )
