"""Runs workflow code deterministically from a history. Pure: no clock, no I/O."""

from __future__ import annotations

from workflows.interpreter.interpreter import Interpreter

__all__ = ["Interpreter"]
