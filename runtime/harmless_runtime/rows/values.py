"""Turn the values of numpy, pandas, polars and pyarrow into Python's own, as JSON has them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harmless_runtime.rows.arrow_json import decoder_of

# What these packages call the method that gives Python's own values: pyarrow's scalars, and its
# arrays, numpy and pandas, polars. Only numpy has to be installed.
_CONVERSIONS = ("as_py", "to_pylist", "tolist", "to_list")
# The types of pandas' NA and NaT. NA cannot be compared, because it answers with itself.
_MISSING_TYPES = ("NAType", "NaTType")


def plain_value(value: Any) -> Any:
    """Return a value as JSON would have it, to any depth. A value that is missing becomes None.

    For example, an array of mappings becomes a list of dicts. Values of other packages are returned
    as they are.

    Raises:
        RecursionError: the value is nested too deeply.
        UnicodeDecodeError: a text of pyarrow is not valid UTF-8.
    """
    if value is None or type(value) in (str, int, bool):
        return value
    if _is_missing(value):
        return None
    for name in _CONVERSIONS:
        convert = getattr(value, name, None)
        if convert is not None:
            converted = _decoded(value, convert())
            # numpy's longdouble stays one, because Python has no such number.
            return value if type(converted) is type(value) else plain_value(converted)
    if isinstance(value, Mapping):
        return {name: plain_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    return value


def _decoded(value: Any, converted: Any) -> Any:
    """Return Python's own value for one of pyarrow, whose type may be JSON."""
    if not isinstance(converted, str | list | dict) or type(value).__module__ != "pyarrow.lib":
        return converted
    decode = decoder_of(value.type)
    if decode is None:
        return converted
    return decode(converted) if hasattr(value, "as_py") else list(map(decode, converted))


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return type(value).__name__ in _MISSING_TYPES
