"""Permitted violations of the house rules, with their reasons.

A key is the rule's name and the reported location (``path`` or ``path::definition``).
"""

from __future__ import annotations

PERMITTED_VIOLATIONS: dict[tuple[str, str], str] = {
    # Files that create tasks themselves. The reason says where failures of the tasks go.
    **{
        ("tasks_are_supervised", path): reason
        for path, reason in {
            "core/eventstore/election.py": "the leader's term awaits its work and its renewals",
            "core/eventstore/etcd/channel.py": "all calls await the one attempt to connect",
            "core/eventstore/etcd/watch.py": "the reader of the stream receives its end",
            "core/eventstore/group_commit.py": "each waiting proposal receives the failure",
            "nodeagent/servers/framed_server.py": "the task ends its connection and logs failures",
            "ops/cli/pod_source.py": "the command awaits the task before its end",
            "ops/cli/application_sources.py": "the command awaits the task before its end",
            "ops/kubernetes/watches/custom_owners.py": "a TaskGroup raises its tasks' failures",
            "workflows/engine/worker/activities.py": "the slot of an attempt awaits its task",
            "workflows/engine/client/replies.py": "the same function awaits the task",
            "workflows/engine/run/run_inbox.py": "the task outlives its caller and logs failures",
            "workflows/engine/client/completions.py": "readers of closed executions await the task",
            "workflows/engine/run/execution.py": "the term collects the ends of its executions",
            "workflows/engine/store/session.py": "the task's end sets the event ``lost``",
            "workflows/engine/worker/shard.py": "failures are caught; a term awaits the task",
            "workflows/engine/worker/worker_session.py": "the term awaits its tasks",
            "workflows/engine/worker/worker.py": "the worker awaits the task when it is closed",
            "workflows/jobs/provider/binding_dispatcher.py": "the dispatcher awaits the task",
            "workflows/jobs/autopools/application_dispatcher.py": "the same round awaits its tasks",
            "workflows/jobs/reclaim/pod.py": "a TaskGroup raises its tasks' failures",
            "workflows/testing/environment.py": "the same function awaits the task; tests only",
            "workflows/testing/skipping_clock.py": "the same function awaits the task; tests only",
        }.items()
    },
    ("no_path_of_one_machine", "core/settings/shared_settings.py"): (
        "the default is the path where existing charts mount conf.yml"
    ),
}
