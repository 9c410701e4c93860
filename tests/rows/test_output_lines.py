"""Lines of output: scores that read back as the same float32, and rejects in valid JSON."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.rows.output_lines import reject_line, score_line
from harmless_runtime.rows.records import Reject
from harmless_runtime.rows.sources import Line


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_score_reads_back_as_the_same_float32(value: float) -> None:
    line = json.loads(score_line(b"1", np.float32(value)))
    assert np.float32(line["score"]) == np.float32(value)
    assert line["id"] == 1


def test_a_line_of_output_is_one_line() -> None:
    line = score_line(b'{"a":\r1}', np.float32(0.1), tokens=3, truncated=True)
    assert line == b'{"id": {"a": 1}, "score": 0.1, "tokens": 3, "truncated": true}\n'


def test_a_reject_keeps_its_text() -> None:
    for raw, key, text in ((b"{", "raw", "{"), (b"\xff", "raw_base64", "/w==")):
        entry = json.loads(reject_line(Reject(Line("f", 7, raw), "why")))
        assert entry == {"source": "f", "line": 7, "reason": "why", key: text}
