"""Read rows of Parquet and Arrow files. Only the columns that are needed are read."""

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harmless_runtime.errors import ConfigError, InputError, one_line
from harmless_runtime.rows.arrow_json import Decode, decode_members, decoders_of
from harmless_runtime.rows.arrow_times import text_of_time, without_nanoseconds
from harmless_runtime.rows.records import Fields
from harmless_runtime.rows.sources import Source
from harmless_runtime.rows.streams import Meter, Stream

# Rows that are Python objects at a time. Each may have megabytes.
_ROWS = 64
_BUFFER_BYTES = 2**16
# The oldest pyarrow that reads Parquet's JSON as JSON, and not as texts.
_OLDEST_PYARROW = 21


@dataclass(frozen=True)
class Batches:
    """The rows of a table, some at a time.

    Attributes:
        schema: a `pyarrow.Schema`: that of the columns which are read.
        rows: number of rows, or None if it is not known before the end.
        batches: each a `pyarrow.RecordBatch`.
        before: number of rows of the file before these.
        group_bytes: of Parquet, the bytes of each row group as they are stored.
        count: number of batches, or None if it is not known before the end.
    """

    schema: Any
    rows: int | None
    batches: Iterator[Any]
    before: int = 0
    group_bytes: Sequence[int] = ()
    count: int | None = None


@contextmanager
def open_parquet(source: Source, columns: Sequence[str] | None) -> Iterator[Batches]:
    """Open a Parquet file, or some row groups of it.

    Args:
        source: a file that can be read at any position.
        columns: which columns to read, as far as the file has them. None means all.

    Raises:
        InputError: the file is damaged, or cannot be read at any position.
        ConfigError: pyarrow is missing.
    """
    need_pyarrow(source.name)
    import pyarrow as pa
    from pyarrow import parquet

    with source.open() as raw:
        _check_positions(source, raw.seekable())
        try:
            # The buffers keep memory flat: without them a whole row group is read at a time.
            file = parquet.ParquetFile(raw, buffer_size=2**20, pre_buffer=False)
            schema = _part(source, file.schema_arrow, columns)
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            rows = [group.num_rows for group in groups]
            begin, end = (source.span.begin, source.span.end) if source.span else (0, len(rows))
            batches = file.iter_batches(
                _ROWS, range(begin, end), columns=schema.names, use_threads=False
            )
            sizes = [_stored_bytes(group) for group in groups]
            yield Batches(schema, sum(rows[begin:end]), batches, sum(rows[:begin]), sizes)
        except pa.ArrowException as error:
            raise _damaged(source, error) from error


@contextmanager
def open_arrow(stream: Stream, columns: Sequence[str] | None) -> Iterator[Batches]:
    """Open an Arrow file, in the format for files or for streams.

    A file is read through its footer where it can be read at any position, and otherwise as a
    stream: from a pipe, or if it has no footer because it is damaged.

    Args:
        stream: the open input.
        columns: as in `open_parquet`.

    Raises:
        InputError, ConfigError: as `open_parquet`.
    """
    need_pyarrow(stream.source.name)
    import pyarrow as pa

    is_file = stream.head.startswith(b"ARROW1")
    is_sought = False
    try:
        if is_file and stream.source.can_be_opened_again and not stream.is_compressed:
            with _buffered(stream.source) as file:
                is_sought = file.seekable()
                table = _by_footer(stream.source, file, columns) if is_sought else None
                if table is not None:
                    yield table
                    return
        with _as_stream(stream, columns, is_file) as table:
            yield table
    except pa.ArrowException as error:
        raise _damaged(stream.source, error) from error
    except OSError as error:
        if not is_file or is_sought or type(error) is not OSError or error.errno:
            raise  # it is not pyarrow's
        raise InputError(
            f"cannot read {stream.source.name} as a stream: {one_line(error)}",
            "it is an Arrow file that may have to be read through its footer: save it in a file, "
            "not compressed as a whole, and name that",
        ) from error


def _buffered(source: Source) -> io.BufferedReader:
    """Open an input so that a read gives all that was asked for. pyarrow repeats none."""
    raw: Any = source.open()
    return io.BufferedReader(raw, _BUFFER_BYTES)


def _by_footer(source: Source, file: Any, columns: Sequence[str] | None) -> Batches | None:
    """Return the batches of an Arrow file that its footer lists, or None if there is no footer."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        reader = ipc.open_file(file)
    except (pa.ArrowInvalid, OSError):
        return None
    names = reader.schema.names
    schema = _part(source, reader.schema, columns)
    if len(schema) < len(names):
        places = [names.index(name) for name in schema.names]
        reader = ipc.open_file(file, options=ipc.IpcReadOptions(included_fields=places))
    count = reader.num_record_batches
    batches = (reader.get_batch(i).select(schema.names) for i in range(count))
    return Batches(schema, None, batches, count=count)


@contextmanager
def _as_stream(stream: Stream, columns: Sequence[str] | None, is_file: bool) -> Iterator[Batches]:
    from pyarrow import ipc

    if is_file:
        # The format for files is that for streams between a header and a footer.
        stream.data.read(8)
    with ipc.open_stream(stream.data) as reader:
        schema = _part(stream.source, reader.schema, columns)
        batches = (batch.select(schema.names) for batch in reader)
        yield Batches(schema, None, _with_footer(stream, batches) if is_file else batches)


def _stored_bytes(group: Any) -> int:
    return sum(group.column(i).total_compressed_size for i in range(group.num_columns))


def _with_footer(stream: Stream, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches, and check that the file did not end between two of them.

    Raises:
        InputError: the footer is not there.
    """
    yield from batches
    if not stream.data.read().endswith(b"ARROW1"):
        raise InputError(f"{stream.source.name} is damaged: it ends early, without its footer")


def read_parquet(source: Source, meter: Meter, columns: Sequence[str] | None) -> Iterator[Fields]:
    """Yield the rows of a Parquet file.

    Args:
        source: a file that can be read at any position.
        meter: counts the bytes, as if each row had the same number.
        columns: as in `open_parquet`.

    Raises:
        InputError, ConfigError: as `open_parquet`.
    """
    start = meter.bytes
    with open_parquet(source, columns) as table:
        for row in read_batches(source.name, table.batches, table.before):
            read = row.number - table.before
            meter.bytes = start + (source.bytes_read or 0) * read // max(table.rows or 0, 1)
            yield row


def read_arrow(
    stream: Stream, meter: Meter, start: int, columns: Sequence[str] | None
) -> Iterator[Fields]:
    """Yield the rows of an Arrow file, in the format for files or for streams.

    Args:
        stream: the open input.
        meter: counts the bytes. Where a footer lists the batches, it counts them as if each had the
            same number.
        start: what the meter showed before the input was opened.
        columns: as in `open_parquet`.

    Raises:
        InputError, ConfigError: as `open_arrow`.
    """
    size = stream.source.bytes_read or 0
    with open_arrow(stream, columns) as table:

        def pieces() -> Iterator[Any]:
            for place, batch in enumerate(table.batches):
                for offset in range(0, batch.num_rows, _ROWS):
                    piece = batch.slice(offset, _ROWS)
                    if table.count is not None:
                        read = place + (offset + piece.num_rows) / batch.num_rows
                        meter.bytes = start + round(size * read / table.count)
                    yield piece

        yield from read_batches(stream.source.name, pieces())


def need_pyarrow(name: str) -> None:
    """Raise ConfigError if pyarrow is missing or too old, with the name of what needs it."""
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            f"{name} needs a package that is missing: pyarrow",
            "pip install '.[parquet]' in the project's folder",
        ) from None
    if int(pyarrow.__version__.partition(".")[0]) < _OLDEST_PYARROW:
        raise ConfigError(
            f"{name} needs pyarrow {_OLDEST_PYARROW} or later, and {pyarrow.__version__} is here",
            "pip install '.[parquet]' in the project's folder",
        )


def _part(source: Source, schema: Any, columns: Sequence[str] | None) -> Any:
    """Return the schema of the columns that are read, of those that there are."""
    import pyarrow as pa

    chosen = [field for field in schema if columns is None or field.name in columns]
    names = [field.name for field in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{source.name} has two columns named {twice[0]}")
    return pa.schema(chosen, schema.metadata)


def read_batches(
    name: str, batches: Iterable[Any], number: int = 0, texts: Collection[str] = ()
) -> Iterator[Fields]:
    """Yield the rows of batches as Python objects, a few at a time.

    Args:
        name: name of the input.
        batches: each a `pyarrow.RecordBatch`. All have the same schema.
        number: the number of rows before these.
        texts: the columns whose bytes are texts, where they are valid UTF-8.
    """
    decoders: dict[str, Decode] | None = None
    for batch in batches:
        if decoders is None:
            decoders = decoders_of(batch.schema, texts)
        for offset in range(0, batch.num_rows, _ROWS):
            some = without_nanoseconds(batch.slice(offset, _ROWS))
            try:
                values = some.to_pylist()
            except (ValueError, OverflowError):
                values = [_row_alone(some.slice(i, 1)) for i in range(some.num_rows)]
            for row in values:
                number += 1
                yield Fields(name, number, decode_members(row, decoders) if decoders else row)


def _row_alone(row: Any) -> dict[str, Any]:
    """Return the values of a row of which Python does not have one."""
    columns = zip(row.schema.names, row.columns, strict=True)
    return {column: _value(array) for column, array in columns}


def _value(array: Any) -> Any:
    """Return the only value of an array. Bytes that are not UTF-8 become surrogates."""
    import pyarrow as pa

    try:
        return array[0].as_py()
    except (ValueError, OverflowError) as error:  # UnicodeDecodeError is a ValueError
        if pa.types.is_struct(array.type):
            parts = zip(array.type, array.flatten(), strict=True)
            return {field.name: _value(part) for field, part in parts}
        if pa.types.is_map(array.type):
            return list(zip(*map(_value_of_each, (array.keys, array.items)), strict=True))
        if hasattr(array[0], "values"):  # a list of any kind
            return _value_of_each(array[0].values)
        if isinstance(error, UnicodeDecodeError):
            return error.object.decode("utf-8", "surrogateescape")
    return text_of_time(array)


def _value_of_each(array: Any) -> list[Any]:
    return [_value(array.slice(i, 1)) for i in range(len(array))]


def _check_positions(source: Source, seekable: bool) -> None:
    if not seekable or not source.can_be_opened_again:
        raise InputError(
            f"{source.name} is Parquet, which cannot be read from a pipe, nor from a server that "
            "sends only whole files",
            "save it in a file first",
        )


def _damaged(source: Source, error: Exception) -> InputError:
    return InputError(f"{source.name} is damaged: {one_line(error)}")
