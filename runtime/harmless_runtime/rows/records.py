"""Parse a line of JSON into a record, or into a reject that says why it cannot be scored."""

from dataclasses import dataclass

import msgspec

from harmless_runtime.rows.sources import Line


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a row that matter here. All others are ignored.

    `id` is the JSON text of the row's id, byte for byte. A row without an id has `""`, an empty
    string in JSON. `input` is optional, and null means that it is absent.
    """

    id: msgspec.Raw = msgspec.Raw(b'""')
    instruction: str
    input: str | None = None
    output: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that gets no score, and the reason."""

    line: Line
    reason: str


_DECODER = msgspec.json.Decoder(Record)


def parse_line(line: Line) -> Record | Reject:
    """Decode one line strictly: no byte is dropped, and no value is converted to text."""
    if line.length is not None:
        return Reject(
            line,
            f"the line has {line.length:,} bytes, more than max_line_bytes allows; raw holds its "
            "beginning",
        )
    try:
        # The JSON decoder does not look into the strings that it skips.
        line.raw.decode()
        return _DECODER.decode(line.raw)
    except UnicodeDecodeError as error:
        return Reject(line, f"invalid UTF-8 at byte {error.start} of the line")
    except RecursionError:
        return Reject(line, "the JSON is nested too deeply")
    except msgspec.ValidationError as error:
        return Reject(line, str(error))
    except msgspec.DecodeError as error:
        return Reject(line, f"not valid JSON: {error}")
