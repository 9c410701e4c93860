"""Read the rows of all inputs of a run as pairs, in a shape that is decided once."""

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, count
from operator import itemgetter
from typing import Any, TypeVar

from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.advice import check_fields, no_shape, warn_of_unread
from harmless_runtime.rows.arrow_rows import read_batches
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.first_rows import beginning, values_in
from harmless_runtime.rows.forms import TABLES, find_form, open_batches, read_source
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import Fields, Pair, Reject, Row
from harmless_runtime.rows.shapes import (
    KNOWN,
    PAIRS,
    Reading,
    Shape,
    check_columns,
    check_distinct,
    recognise,
)
from harmless_runtime.rows.sources import Source, find_source
from harmless_runtime.rows.streams import Meter
from harmless_runtime.rows.unread import Form

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class _Held:
    """A stream that was opened to look at its first rows. It cannot be opened again."""

    rows: Iterator[Row]
    seen: list[Row] = field(default_factory=list)


class Inputs:
    """The inputs of a run, and how they are read.

    Args:
        sources: the inputs. They are read one after the other.
        reading: how.
        shape: the shape of the rows, if it is known already.

    Raises:
        ConfigError: `columns` of `reading` names something that cannot be named.
    """

    def __init__(
        self, sources: Iterable[Source], reading: Reading, shape: Shape | None = None
    ) -> None:
        check_columns(reading)
        self.sources = tuple(sources)
        self.reading = reading
        self._known_shape = shape
        self._shape = shape
        self._held: dict[int, _Held] = {}
        self._meter = Meter()
        # Rows of each input, as far as they were read. None stands for one that was not read.
        self.counts: list[int | None] = [None] * len(self.sources)

    @property
    def position(self) -> int:
        """Bytes of the inputs that were read so far, as they are stored."""
        return self._meter.bytes

    @property
    def lines_read(self) -> int:
        """Lines of the last input or span that was read, if it was JSON lines."""
        return self._meter.lines

    def look_again(self) -> None:
        """Look at the inputs again before the first row is scored. They may have grown, or gone.

        The shape of rows that have changed is decided again.

        Raises:
            InputError: as `find_source`.
        """
        before = [source.seen or source.version for source in self.sources]
        self.sources = tuple(
            _for_each(lambda s: replace(find_source(s.where, s.below), span=s.span), self.sources)
        )
        if before != [s.seen or s.version for s in self.sources] and not self._held:
            self._shape = self._known_shape

    def check_unchanged(self) -> None:
        """Look at all inputs again, which may have changed since they were found.

        Raises:
            InputError: as `Source.check_unchanged`.
        """
        for _ in _for_each(Source.check_unchanged, self.sources):
            pass

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Report an input that has changed in place of the error that came of it.

        Raises:
            ChangedError: an error came, and an input has changed.
        """
        try:
            yield
        except (InputError, OutputError):
            self.check_unchanged()
            raise

    def warn_of_empty(self) -> None:
        """Log which inputs hold no rows, after all were read."""
        empty = [s.name for s, rows in zip(self.sources, self.counts, strict=True) if rows == 0]
        if not empty:
            return
        some = ", ".join(empty[:3]) + (f" and {len(empty) - 3:,} more" if empty[3:] else "")
        are = "the inputs hold" if len(empty) == len(self.sources) else "these inputs hold"
        logger.warning("%s no rows: %s", are, some)

    def shape(self, *, refuse: bool = True) -> Shape:
        """Return the shape of the rows, which is decided from the first rows of the inputs.

        Args:
            refuse: raise an error if none of these rows can be scored, as it is right for a new
                run. A run that goes on reads them in the usual shape, and compares them with those
                that were scored.

        Raises:
            ShapeError: none of the first rows can be scored.
            ConfigError: two texts are in the same field.
            InputError: an input cannot be read.
        """
        if self._shape is None:
            shape = self._decided(refuse)
            check_distinct(shape)
            self._shape = shape
        return self._shape

    def _decided(self, refuse: bool) -> Shape:
        named = self.reading.named_shape
        # Rows that come as they are written, through a pipe, are not waited for without need.
        if named and not (refuse and all(s.can_be_opened_again for s in self.sources)):
            return named
        rows = list(beginning(self._first()))
        values = [value for row in rows if (value := values_in(row)) is not None]
        form: Form = "table" if any(isinstance(row, Fields) for row in rows) else "json"
        if refuse and rows:
            expected = named or Shape("columns").with_columns(self.reading.columns)
            check_fields(values, self.sources[0].name, expected, self.reading, form)
        if named:
            return named
        usual = PAIRS[-1] if self.reading.pairs else KNOWN["alpaca"]
        shapes = recognise(values, self.reading) or [usual.with_columns(self.reading.columns)]
        shape = shapes[0]
        items = list(self._parsed(iter(rows), shape))
        rejects = [item for item in items if isinstance(item, Reject)]
        if refuse and rows and len(rejects) == len(items):
            ((reason, _),) = Counter(reject.reason for reject in rejects).most_common(1)
            place = f"{rejects[0].source}, line {rejects[0].number}"
            raise no_shape(rejects[0].source, values, place, reason, self.reading, form)
        if rows:
            also = f"; they also fit {', '.join(s.name for s in shapes[1:])}" if shapes[1:] else ""
            logger.info("the rows are read as %s%s", shape, also)
            warn_of_unread(values, self.sources[0].name, shape)
        return shape

    def _first(self) -> Iterator[Row]:
        """Yield rows from the start. Those of a stream are kept to be read again."""
        for i, source in enumerate(self.sources):
            if source.can_be_opened_again:
                with closing(self._open(source, Meter(), None)) as rows:
                    yield from rows
            else:
                held = self._held[i] = _Held(self._open(source, self._meter, None))
                for row in held.rows:
                    held.seen.append(row)
                    yield row

    def rows(self, parts: Iterable[Source] | None = None) -> Iterator[Pair | Reject]:
        """Yield the rows of all inputs in order. A preference pair gives two, the chosen one first.

        Args:
            parts: the inputs again, of which some may be divided into spans.

        Raises:
            ShapeError: as `shape`.
            InputError: an input cannot be read.
            ConfigError: an input needs a package that is missing.
        """
        columns = self.shape().roots
        before = 0
        place = -1
        self.counts = [None] * len(self.sources)
        for source in self.sources if parts is None else parts:
            place += not source.is_continued
            held = self._held.pop(place, None)
            rows: Iterator[Row]
            if held is not None:
                rows = chain(held.seen, held.rows)
            else:
                self._meter.bytes = before
                rows = self._open(source, self._meter, columns)
            number = count()
            counted = map(itemgetter(0), zip(rows, number, strict=False))  # in C, for it is fast
            yield from self._parsed(counted, self.shape())
            # The rest of a file, which is the only input of a piece, has the place -1.
            self.counts[place] = (self.counts[place] or 0) + next(number)
            size = source.bytes_read
            before = self._meter.bytes if size is None else before + size
        self._meter.bytes = before

    def _parsed(self, rows: Iterator[Row], shape: Shape) -> Iterator[Pair | Reject]:
        """Yield what is made of rows."""
        parsers = [RowParser(side, self.reading, in_files=True) for side in shape.sides]
        if len(parsers) == 1:
            return map(parsers[0], rows)
        return (parse(row) for row in rows for parse in parsers)

    def parser(self) -> RowParser:
        """Return what turns rows into pairs. Of a preference pair it gives the chosen text.

        Raises:
            ShapeError: as `shape`.
        """
        side, *_ = self.shape().sides
        return RowParser(side, self.reading, in_files=True)

    def originals(self, source: Source) -> Generator[tuple[Row, Pair | Reject], None, None]:
        """Yield the rows of one input with all their fields, each beside what is made of it.

        Raises:
            InputError, ConfigError: as `rows`.
        """
        if find_form(source, self.shape().roots) in TABLES:
            number, texts = 0, self.shape().roots
            for batch, items in self.original_batches(source):
                rows = read_batches(source.name, [batch], number, texts)
                yield from zip(rows, items, strict=True)
                number += len(items)
            return
        parse = self.parser()
        for row in self._open(source, Meter(), None):
            yield row, parse(row)

    def original_batches(self, source: Source) -> Iterator[tuple[Any, list[Pair | Reject]]]:
        """Yield the rows of a Parquet or Arrow file as batches with all columns.

        Each `pyarrow.RecordBatch` comes with what is made of its rows. That is made of the needed
        columns alone, as `rows` does it.

        Raises:
            InputError, ConfigError: as `rows`.
        """
        parse, roots = self.parser(), self.shape().roots
        number = 0
        with open_batches(source) as table:
            needed = [name for name in table.schema.names if name in roots]
            for batch in table.batches:
                rows = read_batches(source.name, [batch.select(needed)], number)
                yield batch, list(map(parse, rows))
                number += batch.num_rows

    def _open(
        self, source: Source, meter: Meter, columns: list[str] | None
    ) -> Generator[Row, None, None]:
        return read_source(source, meter, columns, self.reading.line_bytes)


def _for_each(look: Callable[[Source], T], sources: Sequence[Source]) -> Iterator[T]:
    """Look at all sources in order, at several at a time if they are elsewhere."""
    is_elsewhere = any(source.kind == "remote" for source in sources)
    return remote.at_once(look, sources) if is_elsewhere else map(look, sources)


def open_inputs(names: Iterable[str], reading: Reading | None = None) -> Inputs:
    """Find the inputs that names stand for.

    Raises:
        InputError, ConfigError: as `find_sources` and `Inputs`.
    """
    return Inputs(find_sources(names), reading or Reading())
