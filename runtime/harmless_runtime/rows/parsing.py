"""Turn a row as the input gives it into a pair of texts, or into a reject that says why not."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from harmless_runtime.rows.conversations import BadRowError, Part, turn_type, turns_in
from harmless_runtime.rows.decode import (
    NotJson,
    decode_bytes,
    text_of,
    text_or_turns,
    turns_of,
)
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import KEPT_BYTES, NO_ID, Fields, Line, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading, Shape, check_distinct
from harmless_runtime.rows.templates import are_words
from harmless_runtime.rows.texts import texts_of

# What bytes that are not UTF-8 are read as.
_ESCAPED = re.compile("[\udc80-\udcff]")
# Half of a pair of escapes, the first or the second one.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
# Decodes an object into the JSON texts of its members.
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# What Python's json module writes for numbers that JSON does not have.
_CONSTANT = re.compile(rb"[:\[,]\s*(NaN|-?Infinity)\b")


class RowParser:
    """Parses rows of one shape, strictly: no byte is dropped, no value is converted to text.

    Args:
        shape: where the texts are.
        reading: how rows are read, of which the shape is decided.
        in_files: whether the rows come from files, in which a text may be the JSON of turns. A text
            that a caller hands over is none: a policy may have written it, and could choose what is
            scored.

    Raises:
        ConfigError: two texts are in the same field.
    """

    def __init__(self, shape: Shape, reading: Reading, *, in_files: bool = False) -> None:
        check_distinct(shape)
        self._shape = shape
        self._needed = tuple(shape.paths.values())
        self._reading = reading
        self._line_bytes = reading.line_bytes
        self._flat = not any("." in path for path in self._needed)
        self._turn = turn_type(shape.role, shape.content)
        self._type = _row_type(shape, Any)
        self._decode = msgspec.json.Decoder(_row_type(shape, msgspec.Raw)).decode
        self._is_plain = shape == KNOWN["alpaca"]
        # The texts that may be the JSON of turns.
        may_be = ("instruction", "output") if in_files and not reading.as_is else ()
        self._cells = tuple(t for t in may_be if t in shape.paths and not self._is_plain)
        self._side = shape.side
        beside = ("history", "system", "system_prompt")
        self._beside = [shape.paths[name] for name in beside if name in shape.paths]
        self._is_asked = bool(shape.instruction and shape.output and len(self._beside) == 3)
        self._has_input = shape.input is not None

    def __call__(self, row: Line | Fields | Reject) -> Pair | Reject:
        """Parse a row. A reject, of a row that could not even be read, is passed on."""
        if isinstance(row, Line):
            return self._parse_line(row)
        if isinstance(row, Fields):
            return self._parse_fields(row)
        return row

    def _parse_line(self, line: Line) -> Pair | Reject:
        if line.length is not None:
            return self._reject(
                line,
                f"the row has {line.length:,} bytes, more than max_line_bytes allows; raw holds "
                "its beginning",
            )
        try:
            # The JSON decoder does not look into the strings that it skips.
            line.raw.decode()
            if not self._flat:
                return self._parse_values(line, msgspec.json.decode(line.raw))
            try:
                record = self._decode(line.raw)
            except msgspec.ValidationError:
                return self._parse_members(line)
            return self._pair(line, record, bytes(record.id))
        except UnicodeDecodeError as error:
            return self._reject(line, f"invalid UTF-8 at byte {error.start} of the row")
        except RecursionError:
            return self._reject(line, "the JSON is nested too deeply")
        except (BadRowError, msgspec.ValidationError) as error:
            return self._reject(line, str(error))
        except msgspec.DecodeError as error:
            return self._reject(line, not_json(error, line.raw))

    def _parse_fields(self, row: Fields) -> Pair | Reject:
        if row.is_blank:
            return self._reject(row, "all cells of the row are empty")
        try:
            pair = self._parse_values(row, row.values)
            if pair.size > self._line_bytes:
                reason = f"the row has {pair.size:,} bytes of text, more than max_line_bytes allows"
                raw = _text_of(row.values)[:KEPT_BYTES]
                return Reject(row.source, row.number, reason, raw, pair.size)
            return pair
        except UnicodeEncodeError:  # bytes that are not UTF-8 were read as surrogates
            return self._reject(row, "a text is not valid UTF-8")
        except RecursionError:
            return self._reject(row, "the row is nested too deeply")
        except (BadRowError, msgspec.ValidationError) as error:
            return self._reject(row, str(error))

    def _parse_members(self, line: Line) -> Pair:
        """Parse a row of JSON whose texts may be in other forms. Its id stays as it is written."""
        members = _decode_members(line.raw)
        row_id = bytes(members.pop(self._shape.id, NO_ID))
        values = {p: msgspec.json.decode(members[p]) for p in self._needed if p in members}
        return self._pair(line, self._record(values), row_id)

    def _words_in(self, row: Fields, values: dict[str, Any]) -> Pair | None:
        """Return the texts of a row that has words and nothing beside them, as most rows are."""
        get = values.get
        history, system, other_system = self._beside
        if not (get(history) in _NOTHING and get(system) in _NOTHING
                and get(other_system) in _NOTHING):  # fmt: skip
            return None
        shape = self._shape
        context = get(shape.input) if shape.input else ""
        context = "" if context is None else context
        row_id = get(shape.id, _MISSING)
        if row_id is _MISSING:
            row_id = NO_ID
        elif type(row_id) is str or type(row_id) is int:
            row_id = msgspec.json.encode(row_id)
        else:
            return None
        request, output = get(shape.instruction or ""), get(shape.output or "")
        return self._words(row, row_id, request, context, output)

    def _words(
        self, row: Line | Fields, row_id: bytes, request: Any, context: Any, output: Any
    ) -> Pair | None:
        """Return the texts of a request and its answer, if all of them surely are words."""
        if type(request) is not str or type(output) is not str or type(context) is not str:
            return None
        if not are_words(request, output) or (context and not are_words(context, "")):
            return None
        question, answer = question_and_answer(request, context, output)
        return Pair(row.source, row.number, row_id, question, answer, side=self._side)

    def _parse_values(self, row: Line | Fields, values: Any) -> Pair:
        if self._is_asked and self._flat and type(values) is dict and isinstance(row, Fields):
            pair = self._words_in(row, values)
            if pair is not None:
                return pair
        # Fields that are not needed may have names and values that cannot be converted.
        if self._flat and type(values) is dict:
            values = {path: values[path] for path in self._needed if path in values}
        elif isinstance(values, Mapping):
            walked = {path: _walk(values, path) for path in self._needed}
            values = {path: value for path, value in walked.items() if value is not _MISSING}
        record = self._record(values)
        row_id = record.id
        if row_id is _MISSING:
            return self._pair(row, record, NO_ID)
        if isinstance(row_id, NotJson):
            raise BadRowError(row_id.reason)
        if isinstance(row_id, bytes):
            row_id = decode_bytes(row_id)
        # A value that JSON does not have, such as a time in nanoseconds, becomes its text.
        return self._pair(row, record, msgspec.json.encode(row_id, enc_hook=str))

    def _record(self, values: Any) -> Any:
        """Convert the needed values. What does not fit as it is may be in another form."""
        try:
            return msgspec.convert(values, self._type)
        except msgspec.ValidationError:
            if not isinstance(values, Mapping):
                raise
            decoded = {
                path: self._decoded(target, values[path])
                for target, path in self._shape.paths.items()
                if path in values
            }
            if decoded == values:
                raise
            return msgspec.convert(decoded, self._type)

    def _decoded(self, target: str, value: Any) -> Any:
        if target in ("id", "history"):
            return value
        if target == "messages":
            return turns_of(value)
        text = text_of(value)
        may_be_turns = target in ("instruction", "output") and not self._is_plain
        return turns_of(value) if may_be_turns and not isinstance(text, str) else text

    def _read_turns(self, record: Any) -> None:
        """Put lists of turns in place of the texts of a record that are their JSON."""
        for target in self._cells:
            text = getattr(record, target)
            if isinstance(text, str) and text.startswith("["):
                setattr(record, target, self._turns_or_text(target, text))

    def _turns_or_text(self, target: str, text: str) -> Any:
        try:
            return msgspec.convert(text_or_turns(text), str | list[self._turn])  # type: ignore[name-defined]
        except msgspec.ValidationError as error:
            where = f"`$.{self._shape.paths[target]}"
            raise BadRowError(str(error).replace("`$", where)) from None

    def _pair(self, row: Line | Fields, record: Any, row_id: bytes) -> Pair:
        if (
            self._is_asked and record.history is None
            and record.system is None and record.system_prompt is None
        ):  # fmt: skip
            context = (record.input or "") if self._has_input else ""
            pair = self._words(row, row_id, record.instruction, context, record.output)
            if pair is not None:
                return pair
        if self._cells:  # the JSON of a list has a bracket, so that it is not words
            self._read_turns(record)
        texts = texts_of(record, self._reading, self._turn)
        return Pair(row.source, row.number, row_id, *texts, side=self._side)

    def _reject(self, row: Line | Fields, reason: str) -> Reject:
        if isinstance(row, Line):
            return Reject(row.source, row.number, reason, row.raw, row.length)
        return Reject(row.source, row.number, reason, _text_of(row.values))


# What msgspec says of a text that ends too early, and of half of a pair of escapes.
_CUT = "Input data was truncated"
# Fields beside a request that have nothing in them.
_NOTHING = (None, "")
# Stands for a field that a row does not have, where null is a value.
_MISSING = msgspec.UNSET


def not_json(error: msgspec.DecodeError, text: bytes) -> str:
    """Return why a text is not JSON, in a sentence for whoever wrote it.

    Args:
        error: what the decoder says.
        text: the text.
    """
    if not text.strip():
        return "there is nothing where a row should be, as after a comma too many"
    reason = str(error)
    if _HALF.search(text):
        why = "half of a pair of \\u escapes is no character"
    elif constant := _CONSTANT.search(text):
        why = f"{constant[1].decode()} is not JSON; null is"
    elif text.rstrip().endswith(b"},"):
        why = "a comma follows the object"
    elif text.lstrip().startswith(b"{'"):
        why = "it is Python's repr: json.dumps writes JSON"
    else:
        return f"not valid JSON: {'it ends too early' if reason == _CUT else reason}"
    return f"not valid JSON: {why if reason == _CUT else f'{reason} ({why})'}"


@lru_cache(64)
def _row_type(shape: Shape, id_type: Any) -> Any:
    """Make the type that a row of a shape is decoded or converted to.

    It is kept, because each call of a server or a trainer parses rows of the same shape, and a type
    costs more time and memory than a row.
    """
    turn: Any = turn_type(shape.role, shape.content)
    text = str if shape == KNOWN["alpaca"] else str | list[turn] | turn
    default = msgspec.Raw(NO_ID) if id_type is msgspec.Raw else _MISSING
    types: dict[str, tuple[Any, ...]] = {
        "instruction": (text | None, None) if shape.side else (text,),
        "input": (str | None, None),
        "output": (text,),
        "messages": (list[turn],),
        "history": (Any, None),
        "system": (str | list[Part] | None, None),
        "system_prompt": (str | list[Part] | None, None),
        "id": (id_type, default),
    }
    return msgspec.defstruct(
        "Row",
        [(target, *types[target]) for target in shape.paths],
        kw_only=True,
        rename=shape.paths,
        gc=False,
    )


def _walk(values: Any, path: str) -> Any:
    """Follow a dotted path into mappings and lists. Return _MISSING if it leads nowhere.

    A text that is the JSON of a list of turns is such a list.
    """
    if isinstance(values, Mapping) and path in values:
        return values[path]
    for name in path.split("."):
        if isinstance(values, NotJson):
            return values
        values = turns_in(values) or values
        if isinstance(values, Mapping) and name in values:
            values = values[name]
        elif isinstance(values, list) and name.isdecimal() and int(name) < len(values):
            values = values[int(name)]
        else:
            return _MISSING
    return values


def _text_of(values: Any) -> bytes:
    """Return a row's values as JSON, for the rejects file, without keys that JSON cannot have."""
    text = json.dumps(values, ensure_ascii=False, default=_shown, skipkeys=True)
    # Bytes that are not UTF-8 were read as surrogates.
    text = _ESCAPED.sub(lambda byte: rf"\x{ord(byte[0]) - 0xDC00:02x}", text)
    return text.encode("utf-8", "backslashreplace")


def _shown(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
