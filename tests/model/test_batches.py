"""Batches: every row is in one, limits are kept, and little is padded."""

import gzip
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from checkpoints import SHARED
from harmless_runtime.choices import Provider
from harmless_runtime.model.batches import Batch, Limits, pad, plan_batches, plan_limits

HH_ROWS = SHARED / "data/hh_harmless_base_test.jsonl.gz"
LENGTHS = st.lists(st.integers(1, 1024), max_size=200)


def lengths_of(batch: Batch, lengths: list[int]) -> list[int]:
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
    """Return the cost of the best cuts, in tokens, by dynamic programming from the last row."""
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
def test_cuts_cost_little_more_than_the_cheapest(provider: Provider, rows: int) -> None:
    rng = np.random.default_rng(rows)
    limits = plan_limits(provider, 774_000_000, 8, 1024)
    for _ in range(3):
        # Lengths like those of hh-rlhf's rows: mean 170, median 136.
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


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_limits_hold_the_documented_budget(provider: Provider) -> None:
    limits = plan_limits(provider, 774_000_000, batch_size=8, max_length=1024)
    assert limits.batch_tokens <= 8 * 1024
    assert plan_limits(provider, 774_000_000, 1, 256).batch_tokens == 256
    # A larger model has shorter windows.
    assert limits.window_tokens < plan_limits(provider, 1_000_000, 8, 1024).window_tokens
