"""Exceptions to the rules of house style, with their reasons.

The key is the rule's name and the reported location (``path`` or ``path::definition``). The value
is the reason, for the reviewer. An unused exception fails the tests.
"""

from __future__ import annotations

RULE_EXCEPTIONS: dict[tuple[str, str], str] = {
    **{
        ("tasks_are_supervised", path): reason
        for path, reason in {
            "core/eventstore/election.py": "a term awaits its work and its renewals",
            "core/eventstore/etcd/channel.py": "one attempt to connect, awaited by all calls",
            "core/eventstore/etcd/watch.py": "the reader of its stream sees the end",
            "core/eventstore/group_commit.py": "each waiting proposal gets its failure",
            "nodeagent/servers/framed_socket.py": "it ends its connection and logs its failure",
            "ops/cli/pod_source.py": "a command awaits it before it ends",
            "ops/cli/cluster_applications.py": "a command awaits it before it ends",
            "ops/kubernetes/watches/custom_owners.py": "a TaskGroup raises what ends a member",
            "workflows/engine/worker/activities.py": "an attempt, awaited by its slot",
            "workflows/engine/client/call_results.py": "awaited by the same function",
            "workflows/engine/run/run_inbox.py": "it outlives its caller and logs its failure",
            "workflows/engine/client/completions.py": "awaited by the readers of closed executions",
            "workflows/engine/run/execution.py": "the term collects the ends of its executions",
            "workflows/engine/store/session.py": "the session sets lost when it ends",
            "workflows/engine/worker/shard.py": "guarded, and awaited when the term drains",
            "workflows/engine/worker/term.py": "the term awaits its parts",
            "workflows/engine/worker/worker.py": "the worker awaits it when it is closed",
            "workflows/jobs/provider/binding_dispatcher.py": "awaited when the dispatcher ends",
            "workflows/jobs/autopools/application_dispatcher.py": "awaited by its own round",
            "workflows/jobs/reclaim/pod.py": "a TaskGroup raises what ends a member",
            "workflows/testing/environment.py": "awaited by the same function; tests only",
            "workflows/testing/skipping_clock.py": "awaited by the same function; tests only",
        }.items()
    },
    ("no_path_of_one_machine", "core/settings/shared_settings.py"): (
        "existing charts mount conf.yml there, a compatible default"
    ),
}
