"""Turn the values of numpy, pandas, polars and pyarrow into Python's own, as JSON has them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

# What these packages call the method that gives Python's own values: numpy and pandas, polars,
# pyarrow's scalars, and its arrays. Only numpy has to be installed.
_CONVERSIONS = ("tolist", "to_list", "as_py", "to_pylist")
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
            converted = convert()
            # numpy's longdouble stays one, because Python has no such number.
            return value if type(converted) is type(value) else plain_value(converted)
    if isinstance(value, Mapping):
        return {name: plain_value(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    return value


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return type(value).__name__ in _MISSING_TYPES
