"""A JSON array gives the same rows as JSON lines, wherever the bytes of the file are cut."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forms import read
from harmless_runtime.errors import InputError
from harmless_runtime.rows.json_array import read_array
from harmless_runtime.rows.records import Pair, Reject

ROW = b'{"instruction": "a", "output": "b"}'
TEXTS = st.text(alphabet='ab"\\[]{},é\n')
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


class _FewBytes(io.RawIOBase):
    """A pipe that gives a few bytes at each read."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._data.read(min(len(buffer), self._most))
        buffer[: len(data)] = data
        return len(data)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 9))
def test_elements_are_those_of_python(
    values: list[object], indent: int | None, ascii_only: bool, most: int
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    lines = list(read_array("x", io.BufferedReader(_FewBytes(data, most)), 10**6))
    assert [json.loads(line.raw) for line in lines] == values
    assert [line.number for line in lines] == [i + 1 for i in range(len(values))]


# What JSON libraries do in different ways.
ODD = [
    b'{"instruction": "\\ud800", "output": "b"}',
    b'{"instruction": "\\ud83d\\ude00\\u0000", "output": "b"}',
    b'{"instruction": "a", "output": "b", "id": 123456789012345678901234567890}',
    b'{"instruction": "a", "output": "b", "id": -0.0}',
    b'{"instruction": "a", "output": "b", "id": 1e400}',
    b'{"instruction": "a", "output": "b", "id": NaN}',
    b'{"instruction": "a", "output": "b", "output": "c"}',
    b'{"instruction": "a", "output": "\xff"}',
    b'{"instruction": "a", "output": "\xed\xa0\x80"}',
    b'{"instruction": "a", "output": "b"} {"instruction": "a", "output": "b"}',
    b'{"instruction": "a", "output": "b"]',
    b'{"instruction": "a", "output": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"instruction": "a", "output": "' + b"x" * 1_000_000 + b'"}',
    b"1",
    b'"a, [b"',
    b"null",
]


def test_odd_rows_are_the_same_as_in_json_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join([ROW, *ODD, ROW]))
    (tmp_path / "rows.json").write_bytes(
        b"\xef\xbb\xbf\n[" + b",\r\n".join([ROW, *ODD, ROW]) + b"\n]\n"
    )
    expected = read(tmp_path / "rows.jsonl", line_bytes=500_000)
    items = read(tmp_path / "rows.json", line_bytes=500_000)

    def told(item: Pair | Reject) -> tuple[object, ...]:
        if isinstance(item, Pair):
            return item.number, item.id, item.question, item.answer
        return item.number, item.reason, item.raw, item.length

    assert [told(item) for item in items] == [told(item) for item in expected]
    assert sum(isinstance(item, Pair) for item in items) == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" + ROW + b', {"instruc', "ends early, in element 2"),
        (b"[" + ROW + b", ", "ends early, in element 2"),
        (b"[" + ROW + b"] more", "something follows the JSON array of 1 elements"),
        (b"[" + ROW + b"]]", "something follows the JSON array of 1 elements"),
        (b"[" + ROW + b"]\n[" + ROW + b"]", "something follows the JSON array of 1 elements"),
        (b"[" * 1_000_000, "ends early, in element 1"),
    ],
)
def test_an_array_that_is_damaged(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "rows.json", format="alpaca", line_bytes=1000)


def test_empty_elements_are_rejects(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b"[" + ROW + b",, " + ROW + b",\n]")
    items = read(tmp_path / "rows.json")
    assert [isinstance(item, Pair) for item in items] == [True, False, True, False]
    reason = "not valid JSON: the element is empty, because the array has a comma too many"
    assert [item.reason for item in items if isinstance(item, Reject)] == [reason, reason]
    (tmp_path / "rows.json").write_bytes(b" [ ] ")
    assert read(tmp_path / "rows.json") == []
