"""Prepare a session on CUDA: how large batches may be, that they run, and what few rows run by."""

import logging
import sys
from dataclasses import replace

from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ArtifactError, SessionError
from harmless_runtime.model import few_rows
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits, plan_limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.few_rows import GraphRunner
from harmless_runtime.model.gpu_memory import RESERVE_BYTES, free_gpu_memory, gpu_memory_of
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.trial import reserve_memory, try_runner

logger = logging.getLogger(__name__)

_USUAL_BATCH_SIZE = 8


def limits_of(artifact: Artifact, target: Target, config: ScorerConfig, longest: int) -> Limits:
    """Return the limits that follow from the settings, and from free memory if these say so."""
    parameters = artifact.manifest.parameters
    if config.batch_size != "auto":
        return plan_limits(target.provider, parameters, config.batch_size, longest)
    if target.provider != "cuda":  # where a batch holds 512 tokens or less anyway
        return plan_limits(target.provider, parameters, _USUAL_BATCH_SIZE, longest)
    available = _available(target, RESERVE_BYTES)
    tokens = gpu_memory_of(artifact).most_tokens(available, longest)
    limits = plan_limits(target.provider, parameters, tokens // longest, longest)
    return replace(limits, is_derived=True)


def room_for_batches(artifact: Artifact, target: Target, longest: int) -> int:
    """Return the most tokens of a batch that there seems to be memory for, before it is loaded."""
    if target.provider != "cuda":
        return sys.maxsize
    try:
        memory = gpu_memory_of(artifact)
        available = _available(target, RESERVE_BYTES // 4)
    except (ArtifactError, SessionError):  # then it is tried
        return sys.maxsize
    return memory.room(available, longest)


def _available(target: Target, reserve: int) -> int:
    """Return the bytes of the GPU that a session may take, of which some are reserved."""
    free = free_gpu_memory(target.device) - reserve
    return free if target.gpu_memory is None else min(free, int(target.gpu_memory * 1e9))


def prepare_session(
    session: Session, artifact: Artifact, tokens: int, longest: int, room: int
) -> None:
    """Try a session on CUDA, let it take its memory, and log how much that is.

    Args:
        session: what was loaded.
        artifact: from where.
        tokens: most tokens of a batch.
        longest: most tokens of a row.
        room: as `room_for_batches` returned it.

    Raises:
        SessionError: as `reserve_memory` and `try_runner`.
    """
    # A batch that fails for want of memory leaves the arena larger than it has to be. The largest
    # batch is one of whole rows, and no later one may be larger.
    session.capacity = max(1, min(session.capacity, room) // longest) * longest
    tokens = min(session.capacity, max(tokens, longest))
    tokens = reserve_memory(session, artifact, tokens, longest)
    try_runner(session, artifact, session.target.device)
    _tell_memory(artifact, tokens)


def _tell_memory(artifact: Artifact, tokens: int) -> None:
    try:
        memory = gpu_memory_of(artifact)
    except ArtifactError:
        return
    logger.info(
        "memory of the GPU: %.2f GB for weights and %.2f GB for batches of at most %s tokens, "
        "besides what CUDA takes for itself",
        memory.weights / 1e9,
        memory.activations(tokens) / 1e9,
        f"{tokens:,}",
    )


def graph_runner(engine: Engine) -> GraphRunner:
    """Return what scores few rows of an engine on CUDA.

    It takes the memory of the weights once more, when it is first used.
    """
    target = replace(engine.runner.target, graph_tokens=2 * few_rows.MOST_TOKENS)
    beside = engine.runner
    assert isinstance(beside, Session)
    return GraphRunner(
        lambda: Session(engine.artifact, target, target.graph_tokens, beside),
        engine.runner,
        engine.artifact,
        engine.tokenizer.max_length,
    )
