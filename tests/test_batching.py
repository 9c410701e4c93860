"""Batches and windows: every row once, budgets held, order restored."""

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmless_runtime.artifact import Artifact
from harmless_runtime.batching import Limits, PlannedBatch, pad, plan_batches, plan_limits
from harmless_runtime.records import Line
from harmless_runtime.tokenization import PairTokenizer
from harmless_runtime.windows import read_ahead, read_windows

LENGTHS = st.lists(st.integers(1, 1024), max_size=200)


def lengths_of(batch: PlannedBatch, lengths: list[int]) -> list[int]:
    return [lengths[i] for i in batch.rows]


@given(lengths=LENGTHS, budget=st.integers(1, 10_000))
def test_batches_partition_the_rows_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, Limits(budget, 10**6))
    assert sorted(i for batch in batches for i in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        assert batch.shape == (len(batch.rows), max(lengths_of(batch, lengths)))
        assert batch.tokens <= budget or len(batch.rows) == 1
    longest = [batch.shape[1] for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(lengths=LENGTHS, budget=st.integers(1, 10_000), longest=st.sampled_from([1000, 1020, 1024]))
def test_batches_on_a_grid_hold_their_rows_too(
    lengths: list[int], budget: int, longest: int
) -> None:
    lengths = [min(length, longest) for length in lengths]
    limits = Limits(budget, 10**6, lengths_per_octave=8, max_length=longest)
    batches = plan_batches(lengths, limits)
    assert sorted(i for batch in batches for i in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        rows, length = batch.shape
        assert max(lengths_of(batch, lengths)) <= length <= longest
        assert length % 8 == 0 or length == longest
        assert len(batch.rows) <= rows
        assert batch.tokens <= budget or rows == 1


def test_a_grid_bounds_the_shapes() -> None:
    rng = np.random.default_rng(0)
    limits = plan_limits("cuda", 774_000_000, 8, 1024)
    shapes, rows, padding, tokens = set(), 0, 0, 0
    for _ in range(30):  # windows, each of which ends in a batch that is not full
        lengths = rng.lognormal(np.log(136), 0.7, 4000).clip(1, 1024).astype(int).tolist()
        batches = plan_batches(lengths, limits)
        shapes |= {batch.shape for batch in batches}
        rows += len(batches)
        padding += sum(batch.tokens for batch in batches) - sum(lengths)
        tokens += sum(lengths)
    assert rows > 1000
    assert len(shapes) < 100
    assert padding / tokens < 0.05


def test_pad() -> None:
    rows = [np.array(row, np.int32) for row in ([1, 2, 3], [4])]
    assert pad(rows, 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad(rows, 9).dtype == np.int64
    assert pad(rows, 9, (3, 4)).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9], [9, 9, 9, 9]]


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
    lines = [
        Line("f", n, b'{"instruction": "a", "output": "%b"}' % (b"x" * s) if s % 7 else b"oops")
        for n, s in enumerate(sizes)
    ]
    limits = Limits(100, tokens, rows, size)
    windows = list(read_windows(lines, PairTokenizer(artifact.tokenizer, 1024), limits))
    seen = []
    for window in windows:
        seen += [item.line.number for item in window.items]
    assert seen == list(range(len(lines)))
    for window in windows:
        items = window.items
        assert len(window.rows) + len(window.rejects) == len(items)
        if len(items) > 1:
            assert len(items) <= rows
            assert sum(len(row.encoded.ids) for row in window.rows) <= tokens
            assert sum(len(item.line.raw) for item in items) <= size
        assert items


def test_windows_cut_alike_from_any_cut(artifact: Artifact) -> None:
    # What a resumed run relies on: only the lines since the last cut matter.
    rng = np.random.default_rng(0)
    lines = [
        Line("f", n, b'{"instruction": "a", "output": "%b"}' % (b"word " * rng.integers(0, 60)))
        for n in range(2000)
    ]
    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    limits = Limits(512, 3000, 100, 10**6)
    cuts = [w.rows[0].line.number for w in read_windows(lines, tokenizer, limits)]
    assert len(cuts) > 20
    middle = cuts[len(cuts) // 2]
    again = [w.rows[0].line.number for w in read_windows(lines[middle:], tokenizer, limits)]
    assert again == cuts[len(cuts) // 2 :]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_limits_hold_the_documented_budget(provider: str) -> None:
    limits = plan_limits(provider, 774_000_000, batch_size=8, max_length=1024)
    assert limits.batch_tokens <= 8 * 1024
    assert plan_limits(provider, 774_000_000, 1, 256).batch_tokens == 256
    # A larger model has shorter windows.
    assert limits.window_tokens < plan_limits(provider, 1_000_000, 8, 1024).window_tokens


def test_reading_ahead_passes_on_windows_and_errors(artifact: Artifact) -> None:
    def lines(count: int) -> Iterator[Line]:
        for number in range(count):
            yield Line("f", number, b"oops")
        raise OSError("disk on fire")

    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    limits = Limits(100, 100, window_rows=512)
    windows = read_ahead(lines(1536), tokenizer, limits)
    assert [len(next(windows).rejects) for _ in range(2)] == [512, 512]
    with pytest.raises(OSError, match="on fire"):
        next(windows)
    assert list(read_ahead([], tokenizer, limits)) == []


def test_an_abandoned_reader_ends(artifact: Artifact) -> None:
    # An interpreter that exits while the thread tokenises would abort.
    endless = (Line("f", 0, b'{"instruction": "a", "output": "b"}') for _ in itertools.count())
    limits = Limits(100, 10**9, window_rows=1000)
    windows = read_ahead(endless, PairTokenizer(artifact.tokenizer, 1024), limits)
    assert len(next(windows).rows) == 1000
    windows.close()  # type: ignore[attr-defined]
    readers = [thread for thread in threading.enumerate() if thread.name == "reader"]
    for thread in readers:
        thread.join(5)
        assert not thread.is_alive()
