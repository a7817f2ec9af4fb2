"""Writes JSON as Go's encoder does, because NADs are compared byte by byte."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, NoReturn

from core.errors import BadInput

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

WITHOUT_EXPONENT_MIN: Final = 1e-6
"""Smaller numbers are written with an exponent, as in Go."""

WITH_EXPONENT_MIN: Final = 1e21
"""This number and larger ones are written with an exponent, as in Go."""

DEPTH_MAX: Final = 64
"""The deepest nesting of lists and objects."""

REPLACEMENT: Final = "\ufffd"
"""Go reads a surrogate without its other half as this character."""

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def loads(text: str) -> Json:
    """Parse JSON as Go does. Raises BadInput.

    Numbers become floats, lone surrogates ``REPLACEMENT``, and the last of equal keys wins.
    """
    try:
        value: Json = json.loads(
            text,
            parse_int=_finite_float,
            parse_float=_finite_float,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{text[:32]!r} is not JSON: {error}", remedy="correct the JSON") from None
    _check_depth(value, DEPTH_MAX)
    return without_lone_surrogates(value)


def dumps(value: Json) -> str:
    """One line of JSON."""
    return _encoded(value).translate(_ESCAPES)


def sorted_keys(value: Json) -> Json:
    """The value with the keys of every object sorted."""
    if isinstance(value, Mapping):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [sorted_keys(item) for item in value]
    return value


def _encoded(value: Json) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        parts = (f"{json.dumps(key, ensure_ascii=False)}:{_encoded(value[key])}" for key in value)
        return f"{{{','.join(parts)}}}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_encoded, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    digits = Decimal(repr(value))
    if WITHOUT_EXPONENT_MIN <= abs(value) < WITH_EXPONENT_MIN:
        text = format(digits, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    sign, figures, _ = digits.normalize().as_tuple()
    fraction = "".join(map(str, figures[1:]))
    mantissa = f"{'-' if sign else ''}{figures[0]}{'.' if fraction else ''}{fraction}"
    return f"{mantissa}e{digits.adjusted():+d}"


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is out of range")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def without_lone_surrogates(value: Json) -> Json:
    """The value with ``REPLACEMENT`` for each surrogate without its other half."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(REPLACEMENT, value)
    if isinstance(value, Mapping):
        return {
            _LONE_SURROGATE.sub(REPLACEMENT, key): without_lone_surrogates(item)
            for key, item in value.items()
        }
    if isinstance(value, Sequence):
        return [without_lone_surrogates(item) for item in value]
    return value


def _check_depth(value: Json, depth: int) -> None:
    if isinstance(value, str) or not isinstance(value, Mapping | Sequence):
        return
    if depth == 0:
        raise BadInput(
            f"the JSON has more than {DEPTH_MAX} nested levels", remedy="nest it less deeply"
        )
    for item in value.values() if isinstance(value, Mapping) else value:
        _check_depth(item, depth - 1)
