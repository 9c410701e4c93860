"""Cut rows into batches of similar length, within limits that bound memory and lost work."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.choices import Provider

# An interrupted run repeats the windows that were under way, so windows are kept to about this
# long. There are two, and more if a window has fewer batches than run at once.
WINDOW_SECONDS = 40
# What a modest machine with this provider computes per second. A faster machine has shorter
# windows.
_MODEST_FLOPS = {"cpu": 100e9, "openvino": 100e9, "cuda": 50e12}
# Several windows are in memory at a time, so short rows need limits of their own.
_WINDOW_ROWS = 8_192
_WINDOW_BYTES = 64 * 2**20
# What a batch costs besides its tokens, in tokens. On CUDA this is an estimate for GPT-2-large:
# some 340 kernels, each with 1.5 µs to start and to drain, at 500,000 tokens/s. On a CPU it is the
# time to read the weights from memory once more. For OpenVINO it is an estimate.
_BATCH_COST = {"cpu": 16, "openvino": 64, "cuda": 256}
# The padding grid: tensor cores want multiples of 8. OpenVINO compiles kernels for every new shape,
# for which a grid of 8 is an estimate as well.
_LENGTH_MULTIPLE = {"cpu": 1, "openvino": 8, "cuda": 8}
# On a CPU, larger matrix products are no faster and need more padding. OpenVINO in bf16 gains from
# larger ones.
_MOST_TOKENS = {"cpu": 512, "openvino": 2048}


# Bytes of the inputs that are scored apart, for about ten minutes on a modest machine. That much is
# lost if a worker dies. On a GPU it is 16 million tokens, so that the padding at the end of the
# last window and the reading before the first one hardly count.
_PIECE_BYTES = {"cpu": 2**20, "openvino": 2**20, "cuda": 64 * 2**20}


@dataclass(frozen=True)
class Limits:
    """The limits of a batch, of a window and of a piece.

    A single row may exceed `batch_tokens`, `window_tokens` and `window_bytes`.

    Attributes:
        batch_tokens: most tokens of a batch, padding included.
        window_tokens: most tokens of a window, without padding.
        window_rows: most rows of a window.
        window_bytes: most UTF-8 bytes of a window's texts, and of its rejected rows.
        batch_cost: the fixed cost of one more batch, as a number of tokens. Rows of different
            lengths share a batch only if the padding costs fewer tokens than this.
        length_multiple: batches are padded to a multiple of this many tokens. With 8, a batch whose
            longest row has 300 tokens is padded to 304.
        max_length: most tokens of a row. No batch is padded beyond this length.
        is_derived: whether `batch_tokens` follows from the free memory of a GPU.
        piece_bytes: bytes of the inputs that can be scored apart, as `rows.pieces` cuts them.
    """

    batch_tokens: int
    window_tokens: int
    window_rows: int = _WINDOW_ROWS
    window_bytes: int = _WINDOW_BYTES
    batch_cost: int = _BATCH_COST["cpu"]
    length_multiple: int = 1
    max_length: int = sys.maxsize
    is_derived: bool = False
    piece_bytes: int = _PIECE_BYTES["cpu"]


@dataclass(frozen=True)
class Batch:
    """Rows that run together: their indices, and [batch_size, sequence_length] with padding."""

    rows: NDArray[np.intp]
    shape: tuple[int, int]

    @property
    def tokens(self) -> int:
        """The number of ids, padding included."""
        return self.shape[0] * self.shape[1]


def plan_limits(
    provider: Provider,
    parameters: int,
    batch_size: int,
    max_length: int,
) -> Limits:
    """Derive the limits from what is known before the first row, so that a rerun cuts the same.

    A token costs about two floating-point operations per parameter of the model.

    Args:
        provider: where the batches run.
        parameters: the number of the model's weights.
        batch_size: rows of `max_length` tokens that a batch holds at most.
        max_length: most tokens of a row.
    """
    batch_tokens = min(batch_size * max_length, _MOST_TOKENS.get(provider, sys.maxsize))
    window_tokens = int(WINDOW_SECONDS * _MODEST_FLOPS[provider] / (2 * parameters))
    return Limits(
        batch_tokens,
        window_tokens,
        batch_cost=_BATCH_COST[provider],
        length_multiple=_LENGTH_MULTIPLE[provider],
        max_length=max_length,
        piece_bytes=_PIECE_BYTES[provider],
    )


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[Batch]:
    """Cut rows into batches of similar length.

    The rows are sorted by length and cut in two where that saves most padding. Each part is cut
    again, as long as a cut saves more than a batch costs. Parts that exceed the budget are then cut
    into full batches. On lengths like those of real rows, padding and batches together cost at most
    1 % more than with the cheapest cuts, which take many times as long to find.

    With a batch cost of 16, rows of 100, 99 and 20 tokens make two batches: to pad 99 to 100 costs
    one token, and to pad 20 to 100 would cost 80.

    Args:
        lengths: tokens of each row, at least 1 each.
        limits: a batch holds at most `batch_tokens`, padding included, unless a single row is
            longer.

    Returns:
        Batches that hold each index into `lengths` once. The longest rows come first, so that
        memory runs out at the start or not at all.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    multiple = limits.length_multiple
    padded = -(-np.asarray(lengths, dtype=np.int64)[order] // multiple) * multiple
    padded = np.minimum(padded, limits.max_length)
    batches = []
    parts = [(0, len(order))] if len(order) else []
    while parts:
        start, end = parts.pop()
        # The tokens saved by a cut before each row: that row and those after it lose padding.
        saved = (padded[start] - padded[start:end]) * np.arange(end - start, 0, -1)
        best = int(saved.argmax())
        if saved[best] > limits.batch_cost:
            parts += [(start + best, end), (start, start + best)]
            continue
        # No cut of these rows saves enough: split them by the budget alone.
        while start < end:
            longest = int(padded[start])
            stop = min(end, start + max(1, limits.batch_tokens // longest))
            batches.append(Batch(order[start:stop], (stop - start, longest)))
            start = stop
    return batches


def pad(
    rows: Sequence[NDArray[np.int32]], pad_token_id: int, shape: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """Put rows of ids into one int64 array, padded on the right, and below if rows are missing.

    Args:
        rows: the ids of each row.
        pad_token_id: the id to pad with.
        shape: [batch_size, sequence_length]; by default the smallest that holds the rows.
    """
    ids = np.full(shape or (len(rows), max(map(len, rows))), pad_token_id, dtype=np.int64)
    for target, row in zip(ids, rows, strict=False):
        target[: len(row)] = row
    return ids
