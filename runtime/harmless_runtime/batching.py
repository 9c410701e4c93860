"""Row lengths to batches of one rectangle each, and the limits that bound memory and lost work."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A window is the most that an interrupted run repeats, so it is kept to about this long.
WINDOW_SECONDS = 40
# What a modest machine with this provider computes a second; a faster one has shorter windows.
_MODEST_FLOPS = {"cpu": 100e9, "cuda": 50e12}
# Four windows are in memory at a time, so short rows need a limit of their own.
_WINDOW_ROWS = 8_192
_WINDOW_BYTES = 64 * 2**20
LINE_BYTES = 4 * 2**20
# On a GPU a shape that is new costs time: cuDNN plans for each. The number is a guess so far,
# between few shapes and little padding (benchmarks/host.py tells both).
_LENGTHS_PER_OCTAVE = {"cpu": 0, "cuda": 16}
# Tensor cores want multiples of 8.
_LENGTH_MULTIPLE = 8
# On a CPU a larger product is no faster, and more of it is padding: a window holds few rows there.
_CPU_BATCH_TOKENS = 512


@dataclass(frozen=True)
class Limits:
    """The most that a batch and a window hold: tokens with padding, tokens without, rows, bytes.

    A line of input may have `line_bytes` bytes. Every other limit gives way to a single row, so
    that no row that was read is too large to be scored.

    `lengths_per_octave` bounds the shapes of batches: between a power of two and the next, they are
    padded to so many lengths, and the rows of one that is not full to a power of two. With 0, the
    shapes are as the rows are. No row is padded to more than `max_length`.
    """

    batch_tokens: int
    window_tokens: int
    window_rows: int = _WINDOW_ROWS
    window_bytes: int = _WINDOW_BYTES
    lengths_per_octave: int = 0
    max_length: int = sys.maxsize
    line_bytes: int = LINE_BYTES

    def padded_length(self, length: int) -> int:
        """The length of a batch whose longest row has so many tokens."""
        if not self.lengths_per_octave:
            return length
        octave = 1 << (length - 1).bit_length() >> 1  # the power of two below
        step = max(octave // self.lengths_per_octave, _LENGTH_MULTIPLE)
        return min(-(-length // step) * step, self.max_length)


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
        lengths_per_octave=_LENGTHS_PER_OCTAVE[provider],
        max_length=max_length,
        line_bytes=line_bytes,
    )


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[PlannedBatch]:
    """Cut rows into batches of similar length.

    Args:
        lengths: tokens of each row, at least 1 each.
        limits: a batch's rows times its length is at most `batch_tokens`, except where one row
            alone is longer.

    Returns:
        Batches that hold each index into `lengths` once, longest rows first, so that the largest
        buffers are needed at the start.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        length = limits.padded_length(lengths[order[start]])
        most = max(1, limits.batch_tokens // length)
        rows = order[start : start + most]
        height = len(rows)
        if limits.lengths_per_octave:
            height = min(most, 1 << (height - 1).bit_length())
        batches.append(PlannedBatch(rows, (height, length)))
        start += most
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
