"""Write results as Parquet. Every function here needs pyarrow, which belongs to an extra."""

import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from harmless_runtime.errors import OutputError, one_line
from harmless_runtime.rows.arrow_rows import need_pyarrow
from harmless_runtime.scores.texts import as_text, valid_name

logger = logging.getLogger(__name__)

# Rows and bytes that a row group holds, and rows whose types are found at a time.
_GROUP_ROWS = 2**16
_GROUP_BYTES = 64 * 2**20
_BLOCK_ROWS = 1024


class ParquetWriter:
    """Writes batches of rows, gathered into row groups of 65,536 rows or 64 MiB.

    `open_parquet_writer` makes it.
    """

    def __init__(self, writer: Any, schema: Any) -> None:
        self.schema = schema
        self._texts = [field.name for field in schema if str(field.type) == "string"]
        self._writer = writer
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def write_batch(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch` that has the schema of the file."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self.flush()

    def write_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows of Python objects. In a column of texts, what is none is written as JSON."""
        import pyarrow as pa

        rows = [
            {
                **row,
                **{name: as_text(row[name]) for name in self._texts if row.get(name) is not None},
            }
            for row in rows
        ]
        self.write_batch(pa.RecordBatch.from_pylist(rows, self.schema))

    def flush(self) -> None:
        """Write the batches that are in memory as a row group."""
        import pyarrow as pa

        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, self.schema))
        self._batches, self._rows, self._bytes = [], 0, 0


@contextmanager
def open_parquet_writer(path: Path, schema: Any) -> Iterator[ParquetWriter]:
    """Open a new Parquet file to be written.

    Args:
        path: where to write.
        schema: a `pyarrow.Schema`.

    Raises:
        OutputError: pyarrow cannot write the rows, also where that happens in the block.
        ConfigError: pyarrow is missing.
    """
    need_pyarrow(path.name)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetWriter(path, schema) as file:
            writer = ParquetWriter(file, schema)
            yield writer
            writer.flush()
    except (pa.ArrowException, OverflowError) as error:
        raise OutputError(f"cannot write {path.name}: {one_line(error)}") from error


def with_column(schema: Any, column: str) -> Any:
    """Return a schema with a column of float32 scores at its end.

    The features that `datasets` keeps in the schema's metadata get the column as well.
    """
    import pyarrow as pa

    metadata = dict(schema.metadata or {})
    if b"huggingface" in metadata:
        kept = json.loads(metadata[b"huggingface"])
        features = kept.get("info", {}).get("features")
        if features is not None:
            features[column] = {"dtype": "float32", "_type": "Value"}
        metadata[b"huggingface"] = json.dumps(kept).encode()
    return schema.append(pa.field(column, pa.float32())).with_metadata(metadata or None)


def with_numbers(schema: Any, column: str) -> Any:
    """Return a schema in which a column is one of float64."""
    import pyarrow as pa

    place = schema.get_field_index(column)
    return schema.set(place, pa.field(column, pa.float64()))


def find_schema(read: Callable[[], Iterable[Mapping[str, Any]]], name: str) -> Any:
    """Return the schema that holds all of some rows, with their fields in the order of their first.

    A field whose values no column holds as they are, such as numbers beside texts, gets a column of
    texts.

    Args:
        read: gives the rows as Python objects, as JSON has them. It is called a second time if
            values of several types were found. Rows are not kept.
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
    texts |= {field for field, kind in types.items() if field not in texts and not _stored(kind)}
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


def _columns(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the values of each field, some rows at a time."""
    left = iter(rows)
    while block := list(islice(left, _BLOCK_ROWS)):
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


def _stored(kind: Any) -> bool:
    """Return whether Parquet can have a column of a type, and pyarrow can read it again.

    It cannot be an object without fields, nor too many lists in each other.
    """
    import pyarrow as pa
    from pyarrow import parquet

    file = io.BytesIO()
    try:
        parquet.write_table(pa.schema([("values", kind)]).empty_table(), file)
        parquet.read_schema(file)
    except (pa.ArrowException, OSError):
        return False
    return True


def _type_of(values: list[Any]) -> Any:
    """Return the type that holds some values, or None if there is none."""
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowException, TypeError, OverflowError):
        return None


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
