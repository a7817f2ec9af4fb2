"""What may be a workflow id. One rule for clients, children and the keys of the store."""

from __future__ import annotations

from workflows.model.limits import ID_BYTES_MAX

ID_RULE = f"1 to {ID_BYTES_MAX} bytes of printable text (ID_BYTES_MAX)"


def is_id(text: str) -> bool:
    """Whether the text can name an execution."""
    return 0 < len(text.encode(errors="replace")) <= ID_BYTES_MAX and text.isprintable()
