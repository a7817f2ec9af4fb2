"""Every skip names a missing part, because the summary of a run counts skips by part."""

from __future__ import annotations

import ast

from tests.tidy.sources import nodes_of, python_sources


def test_no_skip_has_a_literal_reason() -> None:
    literal_reasons = [
        f"{file.path}:{call.lineno}"
        for file in python_sources()
        if file.package == "tests"
        for call in nodes_of(file.tree)
        if isinstance(call, ast.Call) and has_literal_reason(call)
    ]

    assert literal_reasons == [], "give needs(part, detail) of tests/support/parts.py as the reason"


def has_literal_reason(call: ast.Call) -> bool:
    """Whether this call skips a test and gives a literal text as the reason."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    reasons = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    reasons += call.args if name == "skip" else []
    skips = name in {"skip", "skipif", "importorskip"}
    return skips and any(isinstance(reason, ast.Constant | ast.JoinedStr) for reason in reasons)
