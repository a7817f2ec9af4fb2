"""What an author of workflows and activities imports: ``from workflows.api import workflow``."""

from __future__ import annotations

from workflows.api import activity, workflow

__all__ = ["activity", "workflow"]
