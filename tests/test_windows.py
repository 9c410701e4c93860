"""Windows: every line in order, within limits, cut equally after a resume, and read ahead."""

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.tokenizer import PairTokenizer
from harmless_runtime.read_ahead import ReadAhead
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.windows import Refused, Row, read_windows


def number_of(item: Row | Refused | Reject) -> int:
    return item.pair.number if not isinstance(item, Reject) else item.number


def size_of(item: Row | Refused | Reject) -> int:
    return item.pair.size if not isinstance(item, Reject) else item.size


@given(
    sizes=st.lists(st.integers(0, 120), max_size=60),
    rows=st.integers(1, 10),
    tokens=st.integers(1, 300),
    size=st.integers(1, 1000),
)
@settings(max_examples=60, deadline=None)
def test_windows_hold_every_line_in_order_within_limits(
    sizes: list[int], rows: int, tokens: int, size: int, artifact: Artifact
) -> None:
    pairs = [
        Pair("f", n, b"1", "a", "x" * s) if s % 7 else Reject("f", n, "no", b"oops")
        for n, s in enumerate(sizes)
    ]
    limits = Limits(100, tokens, rows, size)
    windows = list(read_windows(pairs, PairTokenizer(artifact.tokenizer, 1024), limits))
    seen = []
    for window in windows:
        seen += [number_of(item) for item in window.items]
    assert seen == list(range(len(pairs)))
    for window in windows:
        items = window.items
        assert len(window.rows) + len(window.rejects) == len(items)
        if len(items) > 1:
            assert len(items) <= rows
            assert sum(len(row.encoded.ids) for row in window.rows) <= tokens
            assert sum(size_of(item) for item in items) <= size
        assert items


def test_windows_are_cut_equally_from_any_cut_on(artifact: Artifact) -> None:
    # A resumed run relies on this: only the lines since the last cut matter.
    rng = np.random.default_rng(0)
    pairs = [Pair("f", n, b"1", "a", "word " * rng.integers(0, 60)) for n in range(2000)]
    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    limits = Limits(512, 3000, 100, 10**6)
    cuts = [w.rows[0].pair.number for w in read_windows(pairs, tokenizer, limits)]
    assert len(cuts) > 20
    middle = cuts[len(cuts) // 2]
    again = [w.rows[0].pair.number for w in read_windows(pairs[middle:], tokenizer, limits)]
    assert again == cuts[len(cuts) // 2 :]


def test_windows_grow_from_the_start_of_a_piece(artifact: Artifact) -> None:
    pairs = [Pair("f", n, b"1", "a", "b") for n in range(12000)]
    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    limits = Limits(512, 10**9, 4000)
    whole = [512, 512, 1024, 2048, 4000, 3904]
    assert [len(w.rows) for w in read_windows(pairs, tokenizer, limits)] == whole

    def cut(start: int) -> list[int]:
        """Return the windows from a row on, where row 3000 begins a piece."""
        places = iter([n if n < 3000 else n - 3000 for n in range(start, 12000)])
        windows = read_windows(
            pairs[start:], tokenizer, limits, place_in_piece=lambda: next(places)
        )
        return [len(window.rows) for window in windows]

    lengths = cut(0)
    assert lengths == [512, 512, 1024, 952, 512, 512, 1024, 2048, 4000, 904]
    for n in range(len(lengths)):
        assert cut(sum(lengths[:n])) == lengths[n:], "resumed, the same windows"


def test_reading_ahead_passes_on_windows_and_errors(artifact: Artifact) -> None:
    def rejects(count: int) -> Iterator[Reject]:
        for number in range(count):
            yield Reject("f", number, "no", b"oops")
        raise OSError("disk on fire")

    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    limits = Limits(100, 100, window_rows=512)
    with ReadAhead(rejects(1536), tokenizer, limits) as windows:
        taken = iter(windows)
        assert [len(next(taken).rejects) for _ in range(2)] == [512, 512]
        with pytest.raises(OSError, match="on fire"):
            next(taken)
        assert windows.take(wait=False) is None, "only who waits gets the error"
        with pytest.raises(OSError, match="on fire"):
            windows.take()
    with ReadAhead([], tokenizer, limits) as windows:
        assert list(windows) == []


def test_who_does_not_wait_gets_a_window_only_if_it_is_there(artifact: Artifact) -> None:
    may_go_on = threading.Event()

    def slow() -> Iterator[Reject]:
        yield from [Reject("f", 0, "no", b"oops")] * 512
        may_go_on.wait()
        yield from [Reject("f", 1, "no", b"oops")] * 512

    limits = Limits(100, 100, window_rows=512)
    with ReadAhead(slow(), PairTokenizer(artifact.tokenizer, 1024), limits) as windows:
        assert windows.take(wait=False) is None
        may_go_on.set()
        for _ in range(2):
            window = windows.take()
            assert window is not None
            assert len(window.rejects) == 512
        assert windows.take() is None
        assert windows.take(wait=False) is None


def test_an_abandoned_reader_ends(artifact: Artifact) -> None:
    # The interpreter would abort if it exited while the thread tokenises.
    endless = (Pair("f", 0, b"1", "a", "b") for _ in itertools.count())
    limits = Limits(100, 10**9, window_rows=1000)
    with ReadAhead(endless, PairTokenizer(artifact.tokenizer, 1024), limits) as windows:
        assert len(next(iter(windows)).rows) == 512
    readers = [thread for thread in threading.enumerate() if thread.name == "reader"]
    for thread in readers:
        thread.join(5)
        assert not thread.is_alive()


def test_the_rows_before_an_error_come_in_windows_first(artifact: Artifact) -> None:
    def rows() -> Iterator[Pair]:
        for number in range(60):
            yield Pair("f", number, b"1", "a", "word " * 20)
        raise OSError("disk on fire")

    limits = Limits(512, 200)
    windows = read_windows(rows(), PairTokenizer(artifact.tokenizer, 1024), limits)
    seen: list[int] = []
    with pytest.raises(OSError, match="on fire"):
        seen.extend(row.pair.number for window in windows for row in window.rows)
    assert seen == list(range(len(seen)))
    assert len(seen) > 40, "all but the window that was not complete"
