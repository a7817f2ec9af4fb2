"""Reads the requests of some users from the audit log of an API server."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

READ_VERBS: Final = frozenset({"get", "list", "watch"})


class AuditedRequest(NamedTuple):
    """One request. ``name``: ``namespace/name``, or the name of a cluster-wide object."""

    user: str
    verb: str
    resource: str
    name: str
    status: int

    @property
    def has_written(self) -> bool:
        return self.verb not in READ_VERBS and self.status < 300


class Audit:
    """The audit log of the requests of ``users``."""

    def __init__(self, directory: Path, users: Collection[str]) -> None:
        self._log = directory / "audit.log"
        self._policy = directory / "audit-policy.yaml"
        self._users = users

    def flags(self) -> Mapping[str, object]:
        """Write the audit policy; return the flags for the server."""
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "users": sorted(self._users)}, {"level": "None"}],
        }
        self._policy.write_text(yaml.safe_dump(policy))
        return {
            "audit-policy-file": self._policy,
            "audit-log-path": self._log,
            "audit-log-mode": "blocking-strict",
        }

    def requests(self) -> list[AuditedRequest]:
        lines = self._log.read_text().splitlines() if self._log.exists() else ()
        return [_request(json.loads(line)) for line in lines]


def _request(line: dict[str, Any]) -> AuditedRequest:
    reference = line.get("objectRef", {})
    resource = "/".join(filter(None, (reference.get("resource"), reference.get("subresource"))))
    name = "/".join(filter(None, (reference.get("namespace"), reference.get("name"))))
    code = line.get("responseStatus", {}).get("code", 0)
    return AuditedRequest(line["user"]["username"], line["verb"], resource, name, code)
