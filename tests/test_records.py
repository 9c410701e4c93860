"""Lines to records, and everything that makes a line a reject."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import InputError
from harmless_runtime.rows.records import Line, Record, Reject, parse_line, read_lines

GOOD = {"instruction": "a", "output": "b"}


def parse(raw: bytes) -> Record | Reject:
    return parse_line(Line("rows.jsonl", 1, raw))


@pytest.mark.parametrize(
    "raw_id",
    ["7", '"7"', "123456789012345678901234567890", "1.50", "-0", '"\\u00e9"', '{"a": [1 , 2]}',
     "null", "true", '""'],
)  # fmt: skip
def test_ids_are_copied_byte_for_byte(raw_id: str) -> None:
    record = parse(f'{{"id": {raw_id}, "instruction": "a", "output": "b"}}'.encode())
    assert isinstance(record, Record)
    assert bytes(record.id) == raw_id.encode()


def test_fields() -> None:
    record = parse(b'{"output": "b", "x": {"y": 1}, "instruction": "a\\u2028", "input": null}')
    assert record == Record(instruction="a\u2028", input=None, output="b")
    assert bytes(record.id) == b'""'
    assert parse(b'{"instruction": "", "input": "", "output": ""}') == Record(
        instruction="", input="", output=""
    )


@given(st.dictionaries(st.sampled_from(["id", "input", "extra"]), st.text(), max_size=3))
def test_agrees_with_the_standard_library(extra: dict[str, str]) -> None:
    raw = json.dumps(GOOD | extra, ensure_ascii=False).encode()
    record = parse(raw)
    assert isinstance(record, Record)
    assert (record.input or "") == extra.get("input", "")
    assert json.loads(bytes(record.id)) == extra.get("id", "")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not valid JSON"),
        (b'{"instruction": "a", "output": "b"} x', "not valid JSON"),
        (b'{"instruction": "a", "output": "b", "id": NaN}', "not valid JSON"),
        (b'{"instruction": "a", "output": "\\ud800"}', "not valid JSON"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b'"text"', "Expected `object`, got `str`"),
        (b'{"instruction": "a"}', "missing required field `output`"),
        (b'{"output": "a"}', "missing required field `instruction`"),
        (b'{"instruction": null, "output": "b"}', "got `null` - at `$.instruction`"),
        (b'{"instruction": "a", "output": 3}', "got `int` - at `$.output`"),
        (b'{"instruction": "a", "output": "b", "input": ["c"]}', "at `$.input`"),
        (b'{"instruction": "\xff", "output": "b"}', "invalid UTF-8 at byte 17"),
        (b'{"instruction": "a", "output": "b", "other": "\xff"}', "invalid UTF-8"),
        (b'{"instruction": "a", "output": "b", "id": "\xed\xa0\x80"}', "invalid UTF-8"),
        (b"[" * 100_000, "Expected `object`, got `array`"),
        (b'{"instruction": "a", "output": "b", "x": ' + b"[" * 10**6, "nested too deeply"),
    ],
)
def test_rejects(raw: bytes, reason: str) -> None:
    reject = parse(raw)
    assert isinstance(reject, Reject)
    assert reason in reject.reason
    entry = json.loads(reject.to_json())
    assert (entry["source"], entry["line"]) == ("rows.jsonl", 1)
    kept = entry["raw"].encode() if "raw" in entry else base64.b64decode(entry["raw_base64"])
    assert kept == raw


@given(st.binary(max_size=80))
def test_no_bytes_can_break_it(raw: bytes) -> None:
    result = parse(raw)
    if isinstance(result, Reject):
        assert json.loads(result.to_json())["line"] == 1


def test_lines(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(b"\xef\xbb\xbf1\n\n  \r\n2\xe2\x80\xa8\x852\r\n3\x0c3")
    second.write_bytes(b"4\n")
    lines = list(read_lines([str(first), str(second)], LINE_BYTES))
    assert [(line.number, line.raw) for line in lines] == [
        (1, b"1"), (4, b"2\xe2\x80\xa8\x852\r"), (5, b"3\x0c3"), (1, b"4"),
    ]  # fmt: skip
    assert [line.source for line in lines] == [str(first)] * 3 + [str(second)]
    with pytest.raises(InputError, match=r"cannot read .*nothing: No such file"):
        list(read_lines([str(tmp_path / "nothing")], LINE_BYTES))
    with pytest.raises(InputError, match="directory"):
        list(read_lines([str(tmp_path)], LINE_BYTES))
