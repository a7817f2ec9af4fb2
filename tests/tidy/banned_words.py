"""The banned words and phrases, with the words to write instead."""

from __future__ import annotations

from typing import Final

NOT_SEARCHED: Final = (
    "core/audit/log_export.py",
    "ops/manifests.py",
    "workflows/jobs/quarantine/probe.py",
    *(
        "bench/measures/conflict_detection.py",
        "bench/table.py",
        "tests/core/audit/test_log_export.py",
    ),
    *("tests/tidy/banned_words.py", "tests/tidy/test_banned_words.py", "tests/tidy/names.py"),
    "tests/tidy/test_the_rules_catch_offenders.py",
)
"""Files with published names such as ``stranger``, or with examples of banned words."""

VAGUE_NAMES: Final = frozenset(
    {
        *("each", "found", "given", "gone", "kept", "mine", "one", "own", "place", "room"),
        *("said", "scene", "seen", "some", "this", "told", "truth", "wanted"),
    }
)

LINES_OF_A_VAGUE_NAME: Final = 3
"""A vague name is reported if its last use is at least this many lines after its first use."""

BANNED_NAMES: Final = {
    "look": "read, probe, reconcile, scan",
    "looks": "scans",
    "stranger": "conflicting host",
    "strangers": "conflicting hosts",
    "wish": "the desired object",
    "wishes": "desired",
    "need": "request",
    "desk": "context",
    "chores": "housekeeping",
    "arrivals": "inbox",
    "mail": "inbox",
    "news": "changes",
    "vigil": "wait",
    "sighting": "observation",
    "sightings": "observations",
    "suspect": "the Pod to check",
    "stray": "orphaned",
    "doors": "servers",
    "attend": "handle",
    "follower": "reflector",
}
"""Banned part of a name -> what to write instead."""

BANNED_PHRASES: Final = {
    r"\b[Ww]hoever\b": "name the subject",
    r"\b[Nn]obody\b": "no process, no Pod, no user; or the passive",
    r"\b[Ss]omebody\b": "another process, a user",
    r"\b(is|are|was|were) told\b": "receives, returns, reports",
    r"\b[Ww]ho asks\b": "the caller",
    r"\b(is|are|was) (no|none) (number|address|list|text|name|duration|segment)\b": "is not a ...",
    r"\bfor ever\b": "without a limit",
    r"\bis no more\b": "does not exist, was deleted",
    r"\bto be had\b": "available",
    r"\bsays no\b": "refuses, rejects",
    r"\bsaid no\b": "refused, rejected",
    r"\bsays yes\b": "accepts",
    r"\bthe truth\b": "the state in etcd",
    r"\bsource of truth\b": "the API server, etcd",
    r"\bat work\b": "running",
    r"\bhangs? up\b": "closes the connection",
    r"\bstrangers?\b": "another host, a conflicting host",
}
"""Regular expressions for comments and strings, with what to write instead."""
