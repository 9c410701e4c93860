"""Try a session on a few rows before it is trusted with a run.

A GPU can load a model that it cannot run: its kernels may be missing from onnxruntime's wheel, or
need a library or a compute capability that is not there. And one can compute nonsense.
"""

import logging

import numpy as np

from harmless_runtime.errors import OutOfMemoryError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import pad
from harmless_runtime.model.cuda import explain
from harmless_runtime.model.session import Session, ShapeTimes

logger = logging.getLogger(__name__)

# Token ids of an artifact that was never verified, and so has no text with a known score.
_ANY_IDS = [0] * 64


def try_session(session: Session, artifact: Artifact, device: int) -> None:
    """Run a batch of three rows: the artifact's reference text, and the first parts of it.

    A score that is further from PyTorch's than the parity limit is a warning, because a text may
    well be scored with another kernel than at export.

    Raises:
        OutOfMemoryError: memory has no room for the three rows.
        SessionError: the batch failed, or a score is not finite; the message says what to do.
    """
    reference = artifact.manifest.reference
    ids = np.array(reference.ids if reference else _ANY_IDS, np.int32)[: session.capacity]
    rows = [ids, ids[: len(ids) // 2 + 1], ids[:1]][: session.capacity // len(ids)]
    where = f"CUDA device {device} cannot run {artifact.folder}"
    try:
        rewards = session.submit(pad(rows, artifact.manifest.pad_token_id)).result()
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{where}: memory has no room for a few rows: use a higher --gpu-memory, or another "
            "--device"
        ) from error
    except SessionError as error:
        raise SessionError(f"{where}: {explain(str(error.__cause__), device)}") from error
    session.times = ShapeTimes()  # the first run loads kernels, and belongs to no run of rows
    if not np.isfinite(rewards).all():
        raise SessionError(
            f"{where}: its scores of a few rows are {rewards.tolist()}, and have to be numbers "
            "(harmless verify compares the artifact with PyTorch)"
        )
    if reference is not None and len(ids) == len(reference.ids):
        difference = abs(float(rewards[0]) - reference.score)
        if difference > reference.tolerance:
            logger.warning(
                "CUDA device %d scores the reference text of %s with %.4g, and PyTorch with %.4g; "
                "at most %.2g may lie between them: run harmless verify %s",
                device,
                artifact.folder,
                rewards[0],
                reference.score,
                reference.tolerance,
                artifact.folder,
            )
