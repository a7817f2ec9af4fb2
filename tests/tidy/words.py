"""Finds banned words in names, docstrings, comments and messages of a file."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator

from tests.tidy.banned_words import BANNED_NAMES, BANNED_PHRASES, LINES_OF_A_VAGUE_NAME, VAGUE_NAMES
from tests.tidy.sources import Source, nodes_of

_PHRASES = {re.compile(pattern): remedy for pattern, remedy in BANNED_PHRASES.items()}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def banned_names(file: Source) -> Iterator[str]:
    """Yield names with a banned word, and vague names that are used over many lines."""
    for name, line in _defined_names(file.tree):
        for part in name.strip("_").lower().split("_"):
            if part in BANNED_NAMES:
                yield f"{file.path}:{line}: {name}: write {BANNED_NAMES[part]}"
    nodes = nodes_of(file.tree)
    if not any(isinstance(node, ast.Name | ast.arg) and _is_vague(node) for node in nodes):
        return
    for node in nodes:
        if isinstance(node, _FUNCTIONS):
            yield from _long_lived_vague_names(file, node)


def banned_phrases(file: Source) -> Iterator[str]:
    """Yield banned phrases in comments and strings."""
    text = " ".join(file.text.split())
    if not any(phrase.search(text) for phrase in _PHRASES):
        return  # faster than splitting the file into tokens
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for phrase, remedy in _PHRASES.items():
                match = phrase.search(" ".join(token.string.split()))
                if match:
                    yield f'{file.path}:{token.start[0]}: "{match[0]}": write {remedy}'


def _defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in nodes_of(tree):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def _name(node: ast.Name | ast.arg) -> str:
    return node.id if isinstance(node, ast.Name) else node.arg


def _is_vague(node: ast.Name | ast.arg) -> bool:
    return _name(node).strip("_") in VAGUE_NAMES


def _long_lived_vague_names(
    file: Source, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[str]:
    inner = {
        id(part)
        for node in ast.walk(function)
        if isinstance(node, _FUNCTIONS) and node is not function
        for part in ast.walk(node)
    }
    lines: dict[str, list[int]] = defaultdict(list)
    for node in ast.walk(function):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Name | ast.arg) and _is_vague(node):
            lines[_name(node)].append(node.lineno)
    for name, numbers in lines.items():
        if max(numbers) - min(numbers) >= LINES_OF_A_VAGUE_NAME:
            yield f"{file.path}:{min(numbers)}: {function.name}: {name} does not say what it is"
