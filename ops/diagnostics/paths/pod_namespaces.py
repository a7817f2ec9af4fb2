"""Which network namespace a Pod of this node has, by what the coordinator keeps of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from core.errors import DatapathError
from nodeagent.coordinator.attachment_records import AttachmentRecords


def namespace_of(containers: Collection[str], datapath: Path) -> str:
    """The path of the namespace that one of these containers has. Raises DatapathError."""
    for record in AttachmentRecords(datapath).all():
        if record.container in containers:
            return record.netns
    raise DatapathError(
        f"the coordinator of this node keeps nothing of this Pod below {datapath}",
        subject="trace-path",
        remedy="run it on the Pod's node, or name the Pod's network namespace with --netns",
    )
