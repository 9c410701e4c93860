"""Batches and windows: every row once, budgets held, order restored."""

import gzip
import itertools
import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from checkpoints import SHARED
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits, PlannedBatch, pad, plan_batches, plan_limits
from harmless_runtime.model.tokenizer import PairTokenizer
from harmless_runtime.rows.records import Line
from harmless_runtime.windows import read_ahead, read_windows

HH_ROWS = SHARED / "data/hh_harmless_base_test.jsonl.gz"
LENGTHS = st.lists(st.integers(1, 1024), max_size=200)


def lengths_of(batch: PlannedBatch, lengths: list[int]) -> list[int]:
    return [lengths[i] for i in batch.rows]


@given(
    lengths=LENGTHS,
    budget=st.integers(1, 10_000),
    cost=st.integers(0, 2_000),
    multiple=st.sampled_from([1, 8]),
    longest=st.sampled_from([1000, 1020, 1024]),
)
def test_batches_partition_the_rows_within_the_budget(
    lengths: list[int], budget: int, cost: int, multiple: int, longest: int
) -> None:
    lengths = [min(length, longest) for length in lengths]
    limits = Limits(budget, 10**6, batch_cost=cost, length_multiple=multiple, max_length=longest)
    batches = plan_batches(lengths, limits)
    assert sorted(i for batch in batches for i in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        rows, length = batch.shape
        needed = max(lengths_of(batch, lengths))
        assert rows == len(batch.rows)
        assert needed <= length < needed + multiple
        assert length % multiple == 0 or length == longest
        assert batch.tokens <= budget or rows == 1
    longest_first = [batch.shape[1] for batch in batches]
    assert longest_first == sorted(longest_first, reverse=True)


def cheapest(lengths: list[int], limits: Limits) -> int:
    """What the best cuts of sorted rows cost, in tokens: dynamic programming from the last row."""
    multiple = limits.length_multiple
    padded = sorted((-(-length // multiple) * multiple for length in lengths), reverse=True)
    least = [0] * (len(padded) + 1)
    for i in reversed(range(len(padded))):
        most = max(1, limits.batch_tokens // padded[i])
        heights = range(1, min(most, len(padded) - i) + 1)
        least[i] = limits.batch_cost + min(h * padded[i] + least[i + h] for h in heights)
    return least[0]


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
@pytest.mark.parametrize("rows", [5, 64, 500, 2000])
def test_cuts_cost_little_more_than_the_cheapest(provider: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    limits = plan_limits(provider, 774_000_000, 8, 1024)
    for _ in range(3):
        # About as hh-rlhf's rows: mean 170, half of them above 136.
        lengths = rng.lognormal(np.log(136), 0.7, rows).clip(1, 1024).astype(int).tolist()
        batches = plan_batches(lengths, limits)
        cost = sum(batch.tokens for batch in batches) + limits.batch_cost * len(batches)
        assert cost <= 1.01 * cheapest(lengths, limits)


@pytest.mark.skipif(not HH_ROWS.exists(), reason=f"not run: {HH_ROWS} is not there")
@pytest.mark.parametrize(("rows", "most"), [(64, 0.12), (2312, 0.03)])
def test_real_rows_are_padded_little_on_a_gpu(rows: int, most: float) -> None:
    tokenizer = Tokenizer.from_file(str(SHARED / "data/gpt2-tokenizer/tokenizer.json"))
    with gzip.open(HH_ROWS) as file:
        texts = [json.loads(line)["chosen"] for line in itertools.islice(file, rows)]
    lengths = [min(len(tokenizer.encode(text).ids), 1024) for text in texts]
    for batch_size in (8, 32):
        limits = plan_limits("cuda", 774_000_000, batch_size, 1024)
        computed = sum(batch.tokens for batch in plan_batches(lengths, limits))
        assert 1 - sum(lengths) / computed < most


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
