"""Read the scores and the rejects of a run in step with its rows."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from harmless_runtime.choices import Side
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.records import Fields, Line, Pair, Reject
from harmless_runtime.scores.record import Count

_NO_SCORE = b"null"


class ScoreLine(msgspec.Struct, frozen=True, gc=False):
    """A line of scores: JSON texts of the id and of the score, and what `details` adds."""

    id: msgspec.Raw
    score: msgspec.Raw
    tokens: Count | None = None
    truncated: bool | None = None
    source: str | None = None
    line: Count | None = None
    text: Side | None = None


class RejectLine(msgspec.Struct, frozen=True, gc=False):
    """A line of rejects: where its row is."""

    source: str
    line: int


decode_score = msgspec.json.Decoder(ScoreLine).decode
_decode_reject = msgspec.json.Decoder(RejectLine).decode


def read_scores(lines: Iterable[bytes]) -> Iterator[ScoreLine]:
    """Decode lines of scores."""
    return map(decode_score, lines)


class Results:
    """Gives each row of a run its score.

    Args:
        scores: the lines of the scores file.
        rejects: the lines of the rejects file.
        names: the names that the inputs had in the run, by those they have now, if they differ.
        rejects_name: what the error calls the rejects.

    Raises:
        OutputError: the first line of rejects is none.
    """

    def __init__(
        self,
        scores: Iterable[bytes],
        rejects: Iterable[bytes],
        names: Mapping[str, str] | None = None,
        rejects_name: str = "the rejects",
    ) -> None:
        self._names = names or {}
        self._scores = iter(scores)
        self._rejects = read_rejects(rejects, rejects_name)
        self._reject = next(self._rejects, None)
        self._digest = InputDigest()

    def line_of(self, item: Pair | Reject) -> bytes | None:
        """Return the line of scores of the next row, or None if the row was rejected.

        Raises:
            OutputError: the row is not the one that was scored, or a line of rejects is none.
        """
        self._digest.add([item])
        reject = self._reject
        source = self._names.get(item.source, item.source)
        if reject and reject.line == item.number and reject.source == source:
            self._reject = next(self._rejects, None)
            return None
        line = next(self._scores, None)
        if line is None or isinstance(item, Reject):
            raise OutputError(
                f"{item.source}, line {item.number}, has neither a score nor a reject",
                "if its run had rejects, their file has to be beside the scores; otherwise these "
                "are not the rows that were scored: score them again with `overwrite`",
            )
        return line

    def score_of(self, item: Pair | Reject) -> bytes:
        """Return the JSON text of the next row's score: `null` if the row was rejected.

        Raises:
            OutputError: as `line_of`.
        """
        line = self.line_of(item)
        return _NO_SCORE if line is None else bytes(decode_score(line).score)

    def check_no_more(self) -> None:
        """Raise OutputError if there are scores or rejects for which there was no row."""
        if self._reject is not None or next(self._scores, None) is not None:
            raise _changed("there are more results than rows")

    def check_end(self, lines: int, digest: str | None) -> None:
        """Raise OutputError unless the rows were those that were scored, to the last.

        Args:
            lines: number of rows that were scored or rejected.
            digest: their hash, as `InputDigest` computes it, or None if it is not known.
        """
        if self._digest.lines != lines:
            raise _changed(f"the input has {self._digest.lines:,} rows, and {lines:,} were scored")
        if digest is not None and self._digest.text != digest:
            raise _changed("an id or a text differs")


def read_rejects(lines: Iterable[bytes], name: str) -> Iterator[RejectLine]:
    """Decode lines of rejects.

    Args:
        lines: the lines.
        name: of their file, for the error.

    Raises:
        OutputError: a line is none.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield _decode_reject(line)
        except msgspec.DecodeError as error:
            raise OutputError(f"line {number} of {name} is not a reject: {error}") from None


def score_in(value: Any, row: Line | Fields | Reject, column: str | None) -> float | None:
    """Return the score that a row holds in a field, or None if that is missing or empty.

    Args:
        value: of the field.
        row: the row, for the error.
        column: name of the field, for the error.

    Raises:
        InputError: the field holds something else.
    """
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{row.source}, line {row.number}: {column} is {value!r:.80}, and not a score"
        ) from None


def text_of_id(text: bytes) -> str:
    """Return an id, given as JSON, as a text: a string without its quotes."""
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def _changed(what: str) -> OutputError:
    return OutputError(
        f"the rows are not those that were scored: {what}",
        "the scores belong to the rows as they were; score them again with `overwrite`",
    )
