"""Decode the values of Arrow's columns of JSON, at any depth."""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

from harmless_runtime.rows.decode import decode_bytes, decode_json

Decode = Callable[[Any], Any]


def decoders_of(fields: Any, texts: Collection[str] = ()) -> dict[str, Decode]:
    """Return what decodes the values of some columns, which are Python's own. Others stay.

    Args:
        fields: a `pyarrow.Schema`, or several fields of one.
        texts: the columns whose bytes are texts, where they are valid UTF-8.
    """
    found = {field.name: decoder_of(field.type, field.name in texts) for field in fields}
    return {name: decode for name, decode in found.items() if decode is not None}


@lru_cache(256)
def decoder_of(kind: Any, texts: bool = False) -> Decode | None:
    """Return what decodes the values of a type, or None if they stay as they are.

    Args:
        kind: a `pyarrow.DataType`.
        texts: whether bytes are texts, where they are valid UTF-8.
    """
    import pyarrow as pa

    types = pa.types
    if getattr(kind, "extension_name", None) == "arrow.json":
        return _unless_null(decode_json)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return _unless_null(decode_bytes) if texts else None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return decoder_of(kind.value_type, texts)
    if types.is_map(kind):
        key, item = decoder_of(kind.key_type, texts), decoder_of(kind.item_type, texts)
        if key is None and item is None:
            return None
        return _unless_null(lambda pairs: [(_by(key, k), _by(item, v)) for k, v in pairs])
    if types.is_struct(kind):
        members = decoders_of(kind, [field.name for field in kind] if texts else ())
        return _unless_null(lambda value: decode_members(value, members)) if members else None
    if hasattr(kind, "value_type"):  # a list of any kind
        part = decoder_of(kind.value_type, texts)
        return part and _unless_null(lambda values: list(map(part, values)))
    return None


def decoder_of_column(column: Any) -> Decode | None:
    """Return what decodes the values of a column of polars or pandas, or None if they stay."""
    dtype = getattr(column, "dtype", None)
    kind = getattr(dtype, "pyarrow_dtype", None)  # of pandas
    if kind is None and "arrow.json" in repr(dtype):  # of polars
        kind = column.to_arrow().type
    return None if kind is None else decoder_of(kind)


def decode_members(values: dict[str, Any], decoders: dict[str, Decode]) -> dict[str, Any]:
    """Return the fields of a row or an object, of which some are decoded."""
    return {**values, **{name: decode(values[name]) for name, decode in decoders.items()}}


def _unless_null(decode: Decode) -> Decode:
    return lambda value: None if value is None else decode(value)


def _by(decode: Decode | None, value: Any) -> Any:
    return value if decode is None else decode(value)
