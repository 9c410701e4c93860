"""Lines become records, or rejects with a reason."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.rows.output_lines import reject_line
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Line, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading

GOOD = {"instruction": "a", "output": "b"}


PARSE = RowParser(KNOWN["alpaca"], Reading())


def parse(raw: bytes) -> Pair | Reject:
    return PARSE(Line("rows.jsonl", 1, raw))


def texts(pair: Pair | Reject) -> tuple[str, str]:
    assert isinstance(pair, Pair)
    return pair.question, pair.answer


@pytest.mark.parametrize(
    "raw_id",
    ["7", '"7"', "123456789012345678901234567890", "1.50", "-0", '"\\u00e9"', '{"a": [1 , 2]}',
     "null", "true", '""'],
)  # fmt: skip
def test_ids_are_copied_byte_for_byte(raw_id: str) -> None:
    record = parse(f'{{"id": {raw_id}, "instruction": "a", "output": "b"}}'.encode())
    assert isinstance(record, Pair)
    assert record.id == raw_id.encode()


def test_fields() -> None:
    record = parse(b'{"output": "b", "x": {"y": 1}, "instruction": "a\\u2028", "input": null}')
    assert record == Pair("rows.jsonl", 1, b'""', *question_and_answer("a\u2028", "", "b"))
    empty = parse(b'{"instruction": "", "input": "", "output": ""}')
    assert texts(empty) == question_and_answer("", "", "")


@given(st.dictionaries(st.sampled_from(["id", "input", "extra"]), st.text(), max_size=3))
def test_agrees_with_the_standard_library(extra: dict[str, str]) -> None:
    raw = json.dumps(GOOD | extra, ensure_ascii=False).encode()
    record = parse(raw)
    assert isinstance(record, Pair)
    assert texts(record) == question_and_answer("a", extra.get("input", ""), "b")
    assert json.loads(record.id) == extra.get("id", "")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not valid JSON"),
        (b'{"instruction": "a", "output": "b"} x', "not valid JSON"),
        (b'{"instruction": "a", "output": "b", "id": NaN}', "(NaN is not JSON; null is)"),
        (b'{"instruction": "a", "output": "b"}, ', "(a comma follows the object)"),
        (b"{'instruction': 'a', 'output': 'b'}", "(it is Python's repr: json.dumps writes JSON)"),
        (b'{"instruction": "a", "output": "b", "x": [-Infinity]}', "(-Infinity is not JSON"),
        (b'{"instruction": "a", "output": "b", "x": "\\ud800"}', "half of a pair of"),
        (b'{"instruction": "a", "output": "\\ud800"}', "not valid JSON"),
        (b'{"instruction": "a", "output": "b\\ude00"}', "(half of a pair of"),
        (b'{"instruction": "\\ud83d\\ude00", "output": "b', "not valid JSON: it ends too early"),
        (b"", "there is nothing where a row should be, as after a comma too many"),
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
    entry = json.loads(reject_line(reject))
    assert (entry["source"], entry["line"]) == ("rows.jsonl", 1)
    kept = entry["raw"].encode() if "raw" in entry else base64.b64decode(entry["raw_base64"])
    assert kept == raw


@given(st.binary(max_size=80))
def test_any_bytes_give_a_record_or_a_reject(raw: bytes) -> None:
    result = parse(raw)
    if isinstance(result, Reject):
        assert json.loads(reject_line(result))["line"] == 1
