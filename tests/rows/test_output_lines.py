"""Lines of output: scores that read back as the same float32, and rejects in valid JSON."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.rows.output_lines import (
    common_reasons,
    reject_line,
    row_details,
    score_line,
)
from harmless_runtime.rows.records import Pair, Reject


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_score_reads_back_as_the_same_float32(value: float) -> None:
    line = json.loads(score_line(b"1", np.float32(value)))
    assert np.float32(line["score"]) == np.float32(value)
    assert line["id"] == 1


def test_a_line_of_output_is_one_line() -> None:
    pair = Pair('a "b"', 7, b'{"a":\r1}', "Q", "A")
    line = score_line(pair.id, np.float32(0.1), row_details(pair, tokens=3, truncated=True))
    assert line == (
        b'{"id": {"a": 1}, "score": 0.1, "tokens": 3, "truncated": true, '
        b'"source": "a \\"b\\"", "line": 7}\n'
    )


def test_a_reject_keeps_its_text() -> None:
    for raw, key, text in ((b"{", "raw", "{"), (b"\xff", "raw_base64", "/w==")):
        entry = json.loads(reject_line(Reject("f", 7, "why", raw)))
        assert entry == {"source": "f", "line": 7, "reason": "why", key: text}


def test_the_commonest_reasons_are_told_without_their_numbers() -> None:
    reasons = (
        [f"the line has {n:,} bytes" for n in (5000, 12_345)] + ["no"] + ["UTF-8", "y", "z"] * 2
    )
    lines = [reject_line(Reject("f", 1, reason, b"")) for reason in reasons]
    assert common_reasons(lines, 2) == [("the line has … bytes", 2), ("UTF-8", 2)]
