"""Find the schema of a table for rows. Every function here needs pyarrow, an extra."""

import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from harmless_runtime.rows.arrow_rows import need_pyarrow
from harmless_runtime.scores.texts import valid_name

logger = logging.getLogger(__name__)

# Rows that are Python objects at the same time.
Block = list[Mapping[str, Any]]


def with_column(schema: Any, column: str) -> Any:
    """Return a schema with a column of float32 scores at its end.

    The features that `datasets` keeps in the schema's metadata get the column as well.
    """
    import pyarrow as pa

    metadata = dict(schema.metadata or {})
    try:
        kept = json.loads(metadata.get(b"huggingface", b"{}"))
        kept["info"]["features"][column] = {"dtype": "float32", "_type": "Value"}
        metadata[b"huggingface"] = json.dumps(kept).encode()
    except (ValueError, LookupError, TypeError):
        pass  # there is none, or it is not what `datasets` writes
    return schema.append(pa.field(column, pa.float32())).with_metadata(metadata or None)


def with_numbers(schema: Any, column: str) -> Any:
    """Return a schema in which a column is one of float64."""
    import pyarrow as pa

    place = schema.get_field_index(column)
    return schema.set(place, pa.field(column, pa.float64()))


def find_schema(read: Callable[[], Iterable[Block]], name: str) -> Any:
    """Return the schema that holds all of some rows, with their fields in the order of their first.

    A field whose values no column holds as they are, such as numbers beside texts, gets a column of
    texts.

    Args:
        read: gives the rows as Python objects, as JSON has them, some at a time. It is called a
            second time if values of several types were found. Rows are not kept.
        name: where they are to be written, for the error.

    Raises:
        ConfigError: pyarrow is missing.
    """
    need_pyarrow(name)
    import pyarrow as pa

    types: dict[str, Any] = {}
    texts: set[str] = set()
    widened: set[str] = set()
    for field, values in _columns(read()):
        known, found = types.get(field, pa.null()), _type_of(values)
        kind = None if field in texts else _unified(known, found)
        if kind is None:
            texts.add(field)
        elif not {known, found} <= {kind, pa.null()}:
            widened.add(field)
        types[field] = kind
    # A wider type may not hold all values of the types before: float64 not all integers of 64 bits.
    if widened - texts:
        for field, values in _columns(read()):
            if field in widened - texts and not _fit(values, types[field]):
                texts.add(field)
    texts |= {field for field, kind in types.items() if field not in texts and not is_stored(kind)}
    for field in sorted(texts):
        logger.warning(
            "%s: no column of Parquet holds all values of %s as they are, so they are written as "
            "texts",
            name,
            field,
        )
    return pa.schema(
        [(field, pa.string() if field in texts else kind) for field, kind in types.items()]
    )


def _columns(blocks: Iterable[Block]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the values of each field of each block."""
    for block in blocks:
        for field in dict.fromkeys(field for row in block for field in row):
            yield field, [row.get(field) for row in block]


def _fit(values: list[Any], kind: Any) -> bool:
    """Return whether a column of a type holds some values."""
    import pyarrow as pa

    try:
        pa.array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError):
        return False
    return True


def is_stored(kind: Any) -> bool:
    """Return whether Parquet can have a column of a type, and pyarrow can read it again.

    It cannot be an object without fields, nor too many lists in each other.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = io.BytesIO()
    try:
        parquet.ParquetWriter(file, pa.schema([("values", kind)])).close()
        parquet.read_schema(file)
    except (pa.ArrowException, OSError):
        return False
    return True


def _type_of(values: list[Any]) -> Any:
    """Return the type that holds some values as they are, or None if there is none."""
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, TypeError, OverflowError):
        return None
    # pyarrow makes 1.0 of a true that comes after a float.
    if "double" in str(kind) and _have_bools_among_numbers(values):
        return None
    return kind


def _have_bools_among_numbers(values: Iterable[Any]) -> bool:
    """Return whether there are booleans where there are numbers, at the same depth."""
    values = [value for value in values if value is not None]
    kinds = set(map(type, values))
    if bool in kinds and kinds & {int, float}:
        return True
    if kinds == {list}:
        return _have_bools_among_numbers(part for value in values for part in value)
    if kinds == {dict}:
        names = dict.fromkeys(name for value in values for name in value)
        return any(_have_bools_among_numbers(value.get(n) for value in values) for n in names)
    return False


def _unified(known: Any, found: Any) -> Any:
    """Return the type that holds the values of two types, or None if there is none."""
    import pyarrow as pa

    if found is None or known == found:
        return found
    try:
        schemas = [pa.schema([("values", each)]) for each in (known, found)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, TypeError):
        return None


def text_schema(names: Sequence[str], name: str) -> Any:
    """Return the schema of columns of texts.

    Args:
        names: the columns.
        name: where they are to be written, for the error.

    Raises:
        ConfigError: pyarrow is missing.
    """
    need_pyarrow(name)
    import pyarrow as pa

    return pa.schema([(valid_name(column), pa.string()) for column in names])
