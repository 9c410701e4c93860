"""Cut rows into batches of one rectangle each, within limits that bound memory and lost work."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.config import LINE_BYTES

# A window is the most that an interrupted run repeats, so it is kept to about this long.
WINDOW_SECONDS = 40
# What a modest machine with this provider computes a second; a faster one has shorter windows.
_MODEST_FLOPS = {"cpu": 100e9, "cuda": 50e12}
# Four windows are in memory at a time, so short rows need a limit of their own.
_WINDOW_ROWS = 8_192
_WINDOW_BYTES = 64 * 2**20
# What a batch costs beside its tokens, in tokens. On CUDA this is an estimate for GPT-2-large:
# some 340 kernels, each with 1.5 µs to start and to drain, at 500,000 tokens/s. On a CPU it is the
# time to read the weights from memory once more.
_BATCH_COST = {"cpu": 16, "cuda": 256}
# Tensor cores want multiples of 8.
_LENGTH_MULTIPLE = {"cpu": 1, "cuda": 8}
# On a CPU a larger product is no faster, and more of it is padding: a window holds few rows there.
_CPU_BATCH_TOKENS = 512


@dataclass(frozen=True)
class Limits:
    """The most that a batch and a window hold: tokens with padding, tokens without, rows, bytes.

    A line of input may have `line_bytes` bytes. Every other limit gives way to a single row, so
    that no row that was read is too large to be scored.

    Batches are padded to a multiple of `length_multiple` tokens, but to no more than `max_length`.
    `batch_cost` is what a batch costs beside its tokens, in tokens: rows of different lengths go
    into one batch only if the padding costs less.
    """

    batch_tokens: int
    window_tokens: int
    window_rows: int = _WINDOW_ROWS
    window_bytes: int = _WINDOW_BYTES
    batch_cost: int = _BATCH_COST["cpu"]
    length_multiple: int = 1
    max_length: int = sys.maxsize
    line_bytes: int = LINE_BYTES


@dataclass(frozen=True)
class PlannedBatch:
    """Indices of rows, and the batch's shape [batch_size, sequence_length], with padding."""

    rows: NDArray[np.intp]
    shape: tuple[int, int]

    @property
    def tokens(self) -> int:
        """How many ids it holds, padding included."""
        return self.shape[0] * self.shape[1]


def plan_limits(
    provider: str,
    parameters: int,
    batch_size: int,
    max_length: int,
    line_bytes: int = LINE_BYTES,
) -> Limits:
    """Derive the limits from what is known before the first row, so that a rerun cuts alike.

    A token costs about two floating-point operations a parameter.
    """
    batch_tokens = batch_size * max_length
    if provider == "cpu":
        batch_tokens = min(batch_tokens, _CPU_BATCH_TOKENS)
    window_tokens = int(WINDOW_SECONDS * _MODEST_FLOPS[provider] / (2 * parameters))
    return Limits(
        batch_tokens,
        window_tokens,
        batch_cost=_BATCH_COST[provider],
        length_multiple=_LENGTH_MULTIPLE[provider],
        max_length=max_length,
        line_bytes=line_bytes,
    )


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[PlannedBatch]:
    """Cut rows into batches of similar length.

    Sorted by length, the rows are cut in two where that saves most padding, and each part again,
    for as long as a cut saves more than a batch costs. Parts that exceed the budget are then cut
    into full batches. On lengths like those of real rows, padding and batches together cost at most
    1 % more than the cheapest cuts, which take many times as long to find.

    Args:
        lengths: tokens of each row, at least 1 each.
        limits: a batch's rows times its length is at most `batch_tokens`, unless a single row
            is longer.

    Returns:
        Batches that hold each index into `lengths` once, longest rows first, so that the largest
        buffers are needed at the start.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    multiple = limits.length_multiple
    padded = -(-np.asarray(lengths, dtype=np.int64)[order] // multiple) * multiple
    padded = np.minimum(padded, limits.max_length)
    batches = []
    parts = [(0, len(order))] if len(order) else []
    while parts:
        start, end = parts.pop()
        # The tokens that a cut before each row saves: it and the rows after it lose padding.
        saved = (padded[start] - padded[start:end]) * np.arange(end - start, 0, -1)
        best = int(saved.argmax())
        if saved[best] > limits.batch_cost:
            parts += [(start + best, end), (start, start + best)]
            continue
        # No smaller part of these rows is worth a cut either.
        while start < end:
            longest = int(padded[start])
            stop = min(end, start + max(1, limits.batch_tokens // longest))
            batches.append(PlannedBatch(order[start:stop], (stop - start, longest)))
            start = stop
    return batches


def pad(
    rows: Sequence[NDArray[np.int32]], pad_token_id: int, shape: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """Put rows of ids into int64 [batch_size, sequence_length], padded on the right and below.

    Without a shape, it is the smallest that holds them.
    """
    ids = np.full(shape or (len(rows), max(map(len, rows))), pad_token_id, dtype=np.int64)
    for target, row in zip(ids, rows, strict=False):
        target[: len(row)] = row
    return ids
