"""Read times of Arrow that Python does not have: with nanoseconds, or out of its range.

They become texts in ISO 8601, whether pandas is installed, whose own types pyarrow would use, or
not. Every function here needs pyarrow, which belongs to an extra.
"""

import re
from typing import Any


def without_nanoseconds(batch: Any) -> Any:
    """Return a `pyarrow.RecordBatch` whose columns have no times in nanoseconds.

    A column becomes one in microseconds if that loses nothing, and otherwise one of texts.
    """
    import pyarrow as pa

    if not any(getattr(kind, "unit", None) == "ns" for kind in batch.schema.types):
        return batch
    columns = map(_without_nanoseconds, batch.columns)
    return pa.RecordBatch.from_arrays(list(columns), names=batch.schema.names)


def _without_nanoseconds(array: Any) -> Any:
    import pyarrow as pa

    if getattr(array.type, "unit", None) != "ns":
        return array
    if pa.types.is_duration(array.type):
        kind = pa.duration("us")
    elif pa.types.is_timestamp(array.type):
        kind = pa.timestamp("us", array.type.tz)
    else:
        kind = pa.time64("us")
    try:
        pa.scalar(0, kind).as_py()
    except ValueError:  # the zone is not known: `text_of_time` gives the number
        return array
    try:
        return array.cast(kind)
    except pa.ArrowInvalid:
        counts = array.cast(pa.int64()).to_pylist()
    if pa.types.is_duration(kind):
        texts = [None if count is None else _duration(count) for count in counts]
    else:
        values = array.cast(kind, safe=False).to_pylist()
        texts = [
            None if count is None else _time(value, count % 1000)
            for value, count in zip(values, counts, strict=True)
        ]
    return pa.array(texts, pa.string())


def _duration(nanoseconds: int) -> str:
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    text = f"PT{seconds}.{rest:09d}".rstrip("0").rstrip(".") + "S"
    return f"-{text}" if nanoseconds < 0 else text


def _time(value: Any, nanoseconds: int) -> str:
    """Return the text of a time in microseconds, with some nanoseconds more."""
    if not nanoseconds:
        return str(value.isoformat())
    text = value.isoformat(timespec="microseconds")
    return re.sub(r"(\.\d{6})", rf"\g<1>{nanoseconds:03d}", text)


def text_of_time(array: Any) -> Any:
    """Return the text of the only time of an array, which Python's types do not hold.

    A time that pyarrow cannot write either, or in a zone that is not known, becomes its number of
    units since 1970.
    """
    import pyarrow as pa

    try:
        text = array.cast(pa.string())[0].as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        text = "<"
    if text.startswith("<"):  # <value out of range: ...>
        return array.cast(pa.int64())[0].as_py()
    return text.replace(" ", "T")
