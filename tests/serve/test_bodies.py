"""A body is cut into the same rows, whether or not one of them is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmless_runtime.serve.bodies import BadBodyError, envelope_of, rows_of, stripped

VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(['"', "\\", "[{", "}],"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def unwatched() -> None:
    """Wait for the rows as long as it takes."""


@given(st.lists(VALUES, max_size=6), st.integers(0, 6), st.sampled_from(["NaN", '"\\ud83d"', "x"]))
def test_a_wrong_row_leaves_the_others_as_they_are(rows: list[Any], place: int, wrong: str) -> None:
    texts = [json.dumps(row) for row in rows]
    texts.insert(place, wrong)
    body = f" [{' , '.join(texts)}]\n".encode()
    cut = [bytes(row).decode() for row in rows_of(stripped(body), unwatched, 100)]
    assert cut == texts
    envelope = stripped(b'{ "rows" : %b , "on_error":"null" }' % body)
    members = envelope_of(envelope, unwatched)
    assert members["on_error"] == b'"null"'
    assert list(map(bytes, rows_of(members["rows"], unwatched, 100))) == [
        text.encode() for text in texts
    ]


class GivenUpError(Exception):
    """Nobody waits for the rows."""


def test_a_body_is_cut_only_as_long_as_somebody_waits() -> None:
    looks = 0

    def watch() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise GivenUpError

    with pytest.raises(GivenUpError):
        rows_of(b"[" * 2**21, watch, 100)


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf \n"])
def test_an_empty_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadBodyError, match="the body is empty"):
        stripped(body)


def test_no_more_rows_are_cut_than_may_be_asked_for() -> None:
    assert len(rows_of(b"[%b NaN]" % (b"1," * 1000), unwatched, 10)) == 11
