"""Read rows of Parquet and Arrow files. Only the columns that are needed are read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harmless_runtime.errors import ConfigError, InputError, one_line
from harmless_runtime.rows.records import Fields
from harmless_runtime.rows.sources import Source
from harmless_runtime.rows.streams import Meter, Stream

# Rows that are Python objects at a time. Each may have megabytes.
_ROWS = 64


def read_parquet(source: Source, meter: Meter, columns: Sequence[str] | None) -> Iterator[Fields]:
    """Yield the rows of a Parquet file.

    Args:
        source: a file that can be read at any position.
        meter: counts the bytes, as if each row had the same number.
        columns: which columns to read, as far as the file has them. None means all.

    Raises:
        InputError: the file is damaged, or cannot be read at any position.
        ConfigError: pyarrow is missing.
    """
    need_pyarrow(source)
    import pyarrow as pa
    from pyarrow import parquet

    start = meter.bytes
    with source.open() as raw:
        _check_positions(source, raw.seekable())
        try:
            # The buffers keep memory flat: without them a whole row group is read at a time.
            file = parquet.ParquetFile(raw, buffer_size=2**20, pre_buffer=False)
            names = _present(source, file.schema_arrow.names, columns)
            batches = file.iter_batches(_ROWS, columns=names, use_threads=False)
            total = file.metadata.num_rows
            for row in _rows_of(source.name, batches):
                meter.bytes = start + (source.size or 0) * row.number // max(total, 1)
                yield row
        except pa.ArrowException as error:
            raise _damaged(source, error) from error


def read_arrow(stream: Stream, columns: Sequence[str] | None) -> Iterator[Fields]:
    """Yield the rows of an Arrow file, in the format for files or for streams.

    Args:
        stream: the open input.
        columns: as in `read_parquet`.

    Raises:
        InputError, ConfigError: as `read_parquet`.
    """
    need_pyarrow(stream.source)
    import pyarrow as pa
    from pyarrow import ipc

    is_file = stream.head.startswith(b"ARROW1")
    try:
        if is_file:
            # The format for files is that for streams between a header and a footer.
            stream.data.read(8)
        with ipc.open_stream(stream.data) as reader:
            names = _present(stream.source, reader.schema.names, columns)
            batches = (batch.select(names) for batch in reader)
            yield from _rows_of(stream.source.name, batches)
    except pa.ArrowException as error:
        raise _damaged(stream.source, error) from error


def need_pyarrow(source: Source) -> None:
    """Raise ConfigError if pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"{source.name} needs a package that is missing: pyarrow",
            "pip install '.[parquet]' in the project's folder",
        ) from None


def _present(source: Source, names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Return which columns to read of those that there are."""
    chosen = [name for name in names if columns is None or name in columns]
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise InputError(f"{source.name} has two columns named {twice[0]}")
    return chosen


def _rows_of(name: str, batches: Iterable[Any]) -> Iterator[Fields]:
    number = 0
    for batch in batches:
        for offset in range(0, batch.num_rows, _ROWS):
            some = batch.slice(offset, _ROWS)
            try:
                values = some.to_pylist()
            except (ValueError, OverflowError):
                values = None
            for i in range(some.num_rows):
                number += 1
                if values is not None:
                    yield Fields(name, number, values[i])
                else:
                    yield _row_alone(name, number, some.slice(i, 1))


def _row_alone(name: str, number: int, row: Any) -> Fields:
    """Return a row that holds a value which Python does not have."""
    columns = zip(row.schema.names, row.columns, strict=True)
    return Fields(name, number, {column: _value(array) for column, array in columns})


def _value(array: Any) -> Any:
    """Return the only value of an array. Bytes that are not UTF-8 become surrogates."""
    import pyarrow as pa

    try:
        return array[0].as_py()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "surrogateescape")
    except (ValueError, OverflowError):
        # A time out of Python's range, or in a zone that is not known.
        return array.cast(pa.int64())[0].as_py()


def _check_positions(source: Source, seekable: bool) -> None:
    if not seekable or not source.can_be_opened_again:
        raise InputError(
            f"{source.name} is Parquet, which cannot be read from a pipe, nor from a server that "
            "sends only whole files",
            "save it in a file first",
        )


def _damaged(source: Source, error: Exception) -> InputError:
    return InputError(f"{source.name} is damaged: {one_line(error)}")
