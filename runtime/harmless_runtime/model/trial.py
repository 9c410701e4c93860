"""Try a runner on a few rows before it is trusted with a run.

A GPU can load a model that it cannot run. Its kernels may be missing from onnxruntime's wheel, or
need a library or a compute capability that is missing. And a broken GPU can compute nonsense.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from harmless_runtime.errors import OutOfMemoryError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import pad
from harmless_runtime.model.cuda import explain_cuda_error
from harmless_runtime.model.runner import Runner

logger = logging.getLogger(__name__)

# The longest rows, on the padding grid, whose attention in fp32 keeps all products.
_LARGEST_SQUARE = 248
# Used if the artifact was never verified, and so has no text with a known score.
_ANY_IDS = [0] * 64


def reserve_memory(runner: Runner, artifact: Artifact, tokens: int, longest: int) -> int:
    """Run the batches that take most memory, so that ONNX Runtime's arena does not grow later.

    The arena keeps what it has held, and smaller batches find room in it.

    Args:
        runner: what runs them.
        artifact: the opened artifact.
        tokens: most tokens of a batch.
        longest: most tokens of a row.

    Returns:
        The most tokens of a batch that memory has room for.

    Raises:
        OutOfMemoryError: memory has no room even for a row.
        SessionError: a batch failed.
    """
    device = runner.target.device
    with _explained(_failure(artifact, device), device):
        for length in (longest, min(longest, _LARGEST_SQUARE)):
            while True:
                rows = max(1, tokens // length)
                try:
                    runner.submit(np.zeros((rows, length), np.int64)).result()
                    break
                except OutOfMemoryError:
                    if rows == 1:
                        raise
                    tokens = runner.capacity
    return tokens


def _failure(artifact: Artifact, device: int) -> str:
    return f"CUDA device {device} cannot run {artifact.folder}"


@contextmanager
def _explained(failure: str, device: int) -> Iterator[None]:
    """Turn the errors of a batch into sentences that say what it means, and what to do."""
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{failure}: memory has no room for a few rows",
            "raise `gpu_memory`, or choose another `device`",
        ) from error
    except SessionError as error:
        obstacle = explain_cuda_error(str(error.__cause__), device)
        raise SessionError(f"{failure}: {obstacle.cause}", obstacle.hint) from error


def try_runner(runner: Runner, artifact: Artifact, device: int) -> None:
    """Run a batch of at most three rows: the artifact's reference text, and two prefixes of it.

    If the score is further from PyTorch's than the parity limit, this logs a warning. It is no
    error, because the text may be scored with another kernel than at export.

    Raises:
        OutOfMemoryError: memory has no room for the rows.
        SessionError: the batch failed, or a score is not finite.
    """
    reference = artifact.manifest.reference
    failure = _failure(artifact, device)
    ids = np.array(reference.ids if reference else _ANY_IDS, np.int32)[: runner.capacity]
    rows = [ids, ids[: len(ids) // 2 + 1], ids[:1]][: runner.capacity // len(ids)]
    with _explained(failure, device):
        rewards = runner.submit(pad(rows, artifact.manifest.pad_token_id)).result()
    runner.times.clear()  # the first run loads kernels, so its time says nothing about rows
    if not np.isfinite(rewards).all():
        raise SessionError(
            f"{failure}: the scores of a few rows are {rewards.tolist()}, which are not finite",
            f"compare the artifact with PyTorch: harmless verify {artifact.folder}",
        )
    if reference is not None and len(ids) == len(reference.ids):
        difference = abs(float(rewards[0]) - reference.score)
        if difference > reference.tolerance:
            logger.warning(
                "CUDA device %d scores the reference text of %s with %.4g, and PyTorch with %.4g. "
                "They may differ by %.2g at most: run harmless verify %s",
                device,
                artifact.folder,
                rewards[0],
                reference.score,
                reference.tolerance,
                artifact.folder,
            )
