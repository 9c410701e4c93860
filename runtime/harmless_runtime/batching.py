"""Row lengths to batches of one rectangle each, and the limits that bound memory and lost work."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A window is the most that an interrupted run repeats, so it is kept to about this long.
WINDOW_SECONDS = 40
# What a modest machine with this provider computes a second; a faster one has shorter windows.
_MODEST_FLOPS = {"cpu": 100e9, "cuda": 50e12}
# Three windows are in memory at a time, so short rows need a limit of their own.
_WINDOW_ROWS = 8_192
_WINDOW_BYTES = 64 * 2**20
# On a CPU a larger product is no faster, and more of it is padding: a window holds few rows there.
_CPU_BATCH_TOKENS = 512


@dataclass(frozen=True)
class Limits:
    """The most that a batch and a window hold: tokens with padding, tokens without, rows, bytes.

    Every limit gives way to a single row, so that no row is too large to be scored.
    """

    batch_tokens: int
    window_tokens: int
    window_rows: int = _WINDOW_ROWS
    window_bytes: int = _WINDOW_BYTES


def plan_limits(provider: str, parameters: int, batch_size: int, max_length: int) -> Limits:
    """Derive the limits from what is known before the first row, so that a rerun cuts alike.

    A token costs about two floating-point operations a parameter.
    """
    batch_tokens = batch_size * max_length
    if provider == "cpu":
        batch_tokens = min(batch_tokens, _CPU_BATCH_TOKENS)
    window_tokens = int(WINDOW_SECONDS * _MODEST_FLOPS[provider] / (2 * parameters))
    return Limits(batch_tokens=batch_tokens, window_tokens=window_tokens)


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[NDArray[np.intp]]:
    """Cut rows into batches of similar length.

    Args:
        lengths: tokens of each row, at least 1 each.
        batch_tokens: a batch's rows times its longest length is at most this, except where one
            row alone is longer.

    Returns:
        Arrays of indices into `lengths`, each index in exactly one of them, longest rows first,
        so that the largest buffers are needed at the start.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // lengths[order[start]])
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(rows: Sequence[NDArray[np.int32]], pad_token_id: int) -> NDArray[np.int64]:
    """Stack rows of ids into int64 [rows, longest length], padded on the right."""
    ids = np.full((len(rows), max(map(len, rows))), pad_token_id, dtype=np.int64)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids
