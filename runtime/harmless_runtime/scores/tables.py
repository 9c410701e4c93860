"""Write results as Parquet. Every function here needs pyarrow, which belongs to an extra."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harmless_runtime.errors import OutputError, one_line
from harmless_runtime.rows.arrow_rows import need_pyarrow
from harmless_runtime.scores.texts import as_text

# Rows and bytes that a row group holds.
_GROUP_ROWS = 2**16
_GROUP_BYTES = 64 * 2**20


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
        # By an open file, because pyarrow takes no name that is not UTF-8.
        with path.open("wb") as raw, parquet.ParquetWriter(raw, schema) as file:
            writer = ParquetWriter(file, schema)
            yield writer
            writer.flush()
    except (pa.ArrowException, OverflowError) as error:
        raise OutputError(f"cannot write {path.name}: {one_line(error)}") from error
