"""Turn what a Python caller hands over into pairs: a list of rows, or columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any, Protocol

from harmless_runtime.errors import ConfigError, InputError
from harmless_runtime.rows.arrow_json import Decode, decode_members, decoder_of_column
from harmless_runtime.rows.first_rows import FIRST_ROWS
from harmless_runtime.rows.hints import hint_for
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import Fields, Pair, Reject
from harmless_runtime.rows.shapes import Reading, Shape, check_columns, shape_in_memory
from harmless_runtime.rows.unread import Unread
from harmless_runtime.rows.values import plain_value

# The columns of `Gpt2HarmlessScorer.score`. As in other shapes, a text may be a list of messages.
TEXTS = Shape("texts", "instructions", "inputs", "outputs")
_ITEM = "item"


class Column(Protocol):
    """A list, an array, or a column of a data frame."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Items:
    """Rows in memory, in a shape that is decided once.

    Attributes:
        count: number of rows.

    Args:
        rows: each a mapping of names to values; or a mapping of names to columns, which are
            sequences of equal lengths; or a data frame of pandas, polars or pyarrow.
        reading: how rows are read.
        shape: their shape, if it is known and need not be recognised.

    Raises:
        ConfigError: `columns` of `reading` names something that cannot be named, or `rows` is
            neither of these.
        InputError: the columns have different lengths, or are no columns.
    """

    def __init__(
        self,
        rows: Iterable[Any] | Mapping[str, Column],
        reading: Reading,
        shape: Shape | None = None,
    ) -> None:
        check_columns(reading)
        rows = _columns_of(rows)
        if not isinstance(rows, Iterable):
            raise ConfigError(
                f"the rows are of type {type(rows).__name__}, and have to be a list of rows, a "
                "mapping of names to columns, or a data frame"
            )
        self._rows: Any = rows
        if not isinstance(rows, Mapping) and not isinstance(rows, Sequence):
            self._rows = list(rows)
        self._reading = reading
        self._shape = shape or shape_in_memory(self._first(), reading)
        self._roots = self._shape.roots
        self._parse = RowParser(self._shape, reading)
        self._decoders = self._find_decoders()
        self.count = _length(rows) if isinstance(rows, Mapping) else len(self._rows)

    def _first(self) -> list[Any]:
        if isinstance(self._rows, Mapping):
            return [dict.fromkeys(self._rows)]
        return list(islice(self._rows, FIRST_ROWS))

    def _first_values(self) -> list[Any]:
        """Return the first rows with the values of all fields, as JSON has them."""
        rows: Any = self._rows
        if isinstance(rows, Mapping):
            columns = (islice(column, FIRST_ROWS) for column in rows.values())
            rows = [dict(zip(rows, values, strict=True)) for values in zip(*columns, strict=True)]
        return [plain_value(row) for row in islice(rows, FIRST_ROWS)]

    def _find_decoders(self) -> dict[str, Decode]:
        """Return what decodes the columns of JSON that polars and pandas have."""
        if not isinstance(self._rows, Mapping):
            return {}
        columns = ((name, self._rows[name]) for name in self._rows if name in self._roots)
        found = ((name, decoder_of_column(column)) for name, column in columns)
        return {name: decode for name, decode in found if decode is not None}

    def pairs(self) -> Iterator[Pair | Reject]:
        """Yield what is made of each row."""
        for index, row in enumerate(self._values()):
            yield self._pair(index, row)

    def _pair(self, index: int, row: Any) -> Pair | Reject:
        if not isinstance(row, Mapping):
            return Reject(
                _ITEM,
                index,
                f"it is a value of type {type(row).__name__}, and no row",
                b"",
            )
        try:
            values = {name: plain_value(row[name]) for name in self._roots if name in row}
            values = decode_members(values, self._decoders) if self._decoders else values
        except RecursionError:
            return Reject(_ITEM, index, "the row is nested too deeply", b"")
        except UnicodeDecodeError:
            return Reject(_ITEM, index, "a text is not valid UTF-8", b"")
        return self._parse(Fields(_ITEM, index, values))

    def _values(self) -> Iterator[Any]:
        if not isinstance(self._rows, Mapping):
            yield from self._rows
            return
        names = [name for name in self._rows if name in self._roots]
        columns = [self._rows[name] for name in names]
        for values in zip(range(self.count), *columns, strict=True):
            yield dict(zip(names, values[1:], strict=True))

    def refusal(self, reject: Reject) -> InputError:
        """Return the error for a row that cannot be scored, with a hint if its fields are unknown.

        A reject that the model gave no score has a reason of its own.
        """
        message = f"{_ITEM} {reject.number}: {reject.reason}"
        first = self._first()
        if any(isinstance(row, Mapping) and self._shape.fits(row) for row in first):
            return InputError(message)
        if any(isinstance(row, Mapping) for row in first):
            unread = Unread(self._first_values(), reject.reason, self._reading, "memory")
            return InputError(message, hint_for(unread))
        return InputError(
            message,
            "a row is a mapping such as {'instruction': …, 'output': …}; columns of a data frame "
            "go to scorer.score(df['instruction'], df['output'], df['input'])",
        )


def _columns_of(rows: Any) -> Any:
    """Return the columns of a data frame by their names, and anything else as it is."""
    # A lazy frame has names, and neither a length nor values.
    is_frame = hasattr(type(rows), "columns") and hasattr(type(rows), "__len__")
    if isinstance(rows, Mapping) or not is_frame:
        return rows
    # pyarrow calls the names so, and has arrays for `columns`.
    names = getattr(rows, "column_names", None) or list(rows.columns)
    return {name: rows[name] for name in names}


def _length(columns: Mapping[str, Column]) -> int:
    """Return the number of rows that columns have.

    Raises:
        InputError: they are single texts or whole data frames, or have different lengths.
    """
    for name, column in columns.items():
        if not _is_column(column):
            raise InputError(
                f"{name} is a {_kind(column)}, and has to be a list, an array or a column",
                "a single row goes to scorer.score_item; a column of a data frame is like "
                "df['instruction'], and a split of a DatasetDict like splits['train']",
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"the columns have different lengths: {told}")
    return next(iter(lengths.values()), 0)


def _is_column(values: Any) -> bool:
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__len__"):
        return False
    # An array without dimensions is a single value. What has columns is a data frame or a split of
    # `datasets`, which gives its columns one by one, or rows.
    has_columns = hasattr(type(values), "columns") or hasattr(type(values), "column_names")
    return getattr(values, "ndim", 1) > 0 and not has_columns


def _kind(values: Any) -> str:
    name = type(values).__name__
    return name if getattr(values, "ndim", 1) else f"{name} without dimensions"
