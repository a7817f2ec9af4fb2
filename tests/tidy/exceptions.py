"""Where a rule of house style does not hold, and why. Empty is the aim.

The key is the rule's name and the place as it is reported (``path`` or ``path::definition``); the
value is the reason, a sentence for the reviewer. An exception that excuses nothing fails the tests.
"""

from __future__ import annotations

EXCEPTIONS: dict[tuple[str, str], str] = {
    **{
        ("tasks_are_supervised", path): reason
        for path, reason in {
            "core/store/election.py": "one term awaits its work and its renewals before it ends",
            "core/store/etcd/channel.py": "one attempt to connect, awaited by every waiting call",
            "core/store/etcd/watch.py": "asks for progress; the reader of its stream sees the end",
            "core/store/group_commit.py": "its failure is the answer of every waiting proposal",
            "ops/cli/pod_source.py": "a command awaits it before it ends",
            "ops/cli/workloads.py": "a command awaits it before it ends",
            "ops/kubernetes/watches/custom_owners.py": "a TaskGroup raises what ends a member",
            "workflows/engine/activities.py": "an attempt of an activity, awaited by its slot",
            "workflows/engine/call_results.py": "awaited by the caller of the same function",
            "workflows/engine/calls.py": "a write that outlives its caller; it logs its failure",
            "workflows/engine/completions.py": "awaited by the readers of closed executions",
            "workflows/engine/execution.py": "the term collects the ends of its executions",
            "workflows/engine/session.py": "the session sets lost when it ends",
            "workflows/engine/shard.py": "guarded, and awaited when the term drains",
            "workflows/engine/worker.py": "the term awaits its parts, ready and close the worker",
            "workflows/external/provider_dispatcher.py": "awaited when the dispatcher ends",
            "workflows/jobs/autopools/application_dispatcher.py": "awaited by its own round",
            "workflows/jobs/reclaim/change_listener.py": "a TaskGroup raises what ends a member",
            "workflows/testing/clock.py": "awaited by the same function; tests only",
        }.items()
    },
    ("no_path_of_one_machine", "nodeagent/settings/settings_loader.py"): (
        "existing charts mount conf.yml there, a compatible default"
    ),
}
