"""Turn a configuration into something that scores: find or make the artifact, and load it."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.config import LINE_BYTES, Provider, ScorerConfig
from harmless_runtime.errors import ConfigError, HarmlessError, OutOfMemoryError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import (
    Limits,
    PlannedBatch,
    pad,
    plan_batches,
    plan_limits,
)
from harmless_runtime.model.providers import provider_for, select_provider
from harmless_runtime.model.resolve import find_artifact, is_checkpoint
from harmless_runtime.model.session import Session
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer
from harmless_runtime.model.trial import try_session

logger = logging.getLogger(__name__)

# One that runs, and one that waits, so that the device never does.
_SUBMITTED = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was run: the rows it scored, its size in tokens, and the padding in that."""

    rows: list[int]
    tokens: int
    padding: int


@dataclass(frozen=True)
class Engine:
    """An artifact, its tokenizer and its session, ready to score.

    `wider` loads an engine of the same checkpoint in fp32, if it can, for the rows that have no
    finite score in this one's precision.
    """

    artifact: Artifact
    tokenizer: PairTokenizer
    session: Session
    limits: Limits
    wider: Callable[[], "Engine | None"] | None = None

    def score(
        self,
        encoded: Sequence[Encoded],
        on_batch: Callable[[Batch], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Score rows of token ids; rows with the same ids are computed once.

        Args:
            encoded: the rows, in any order.
            on_batch: called after each batch.

        Returns:
            float32 [len(encoded)], in the order given. One is not finite where the model overflows
            in `precision`.

        Raises:
            SessionError: onnxruntime failed, or not even a single row fits into memory.
        """
        scores = np.empty(len(encoded), np.float32)
        alike: dict[bytes, list[int]] = {}
        for i, row in enumerate(encoded):
            alike.setdefault(row.ids.tobytes(), []).append(i)
        groups = list(alike.values())
        distinct = [encoded[group[0]].ids for group in groups]
        for batch, rewards in self._run(distinct):
            rows = []
            for i, reward in zip(batch.rows, rewards, strict=False):
                scores[groups[i]] = reward
                rows += groups[i]
            real = sum(len(distinct[i]) for i in batch.rows)
            on_batch(Batch(rows, batch.tokens, batch.tokens - real))
        overflown = np.flatnonzero(~np.isfinite(scores)).tolist()
        if overflown and self.wider is not None:
            logger.warning(
                "%d rows have no finite score in %s: scoring them in fp32",
                len(overflown),
                self.artifact.manifest.precision,
            )
            wider = self.wider()
            if wider is not None:
                scores[overflown] = wider.score([encoded[i] for i in overflown])
        return scores

    def why_no_score(self, score: float) -> str:
        """Say what a score that is not finite means, and what may mend it."""
        precision = self.artifact.manifest.precision
        if precision == "fp32":
            return f"the score in fp32 is {score}"
        if self.wider is not None:
            return f"the score in {precision} is {score}, and fp32 gave none either"
        return f"the score in {precision} is {score}: export the checkpoint in fp32 for such rows"

    def _run(
        self, rows: Sequence[NDArray[np.int32]]
    ) -> Iterator[tuple[PlannedBatch, NDArray[np.float32]]]:
        """Yield batches of the rows with their rewards, each row once.

        A batch that memory has no room for is run in parts, and so are all larger ones after it.
        """
        todo = deque(plan_batches(list(map(len, rows)), self.limits))
        submitted: deque[tuple[PlannedBatch, Future[NDArray[np.float32]]]] = deque()
        try:
            while todo or submitted:
                while todo and len(submitted) < _SUBMITTED:
                    batch = todo.popleft()
                    if len(batch.rows) > 1 and batch.tokens > self.session.capacity:
                        todo.extendleft(reversed(self._parts(batch, rows)))
                        continue
                    own = [rows[i] for i in batch.rows]
                    ids = pad(own, self.artifact.manifest.pad_token_id, batch.shape)
                    submitted.append((batch, self.session.submit(ids)))
                batch, rewards = submitted.popleft()
                try:
                    yield batch, rewards.result()
                except OutOfMemoryError as error:
                    if len(batch.rows) == 1:
                        raise SessionError(
                            f"memory has no room for a single row of {batch.shape[1]} tokens: use "
                            "another --device, or a lower --max-length"
                        ) from error
                    logger.warning(
                        "out of memory with a batch of %d × %d tokens: going on with %d at most",
                        *batch.shape,
                        self.session.capacity,
                    )
                    todo.extendleft(reversed(self._parts(batch, rows)))
        finally:
            for _, rewards in submitted:
                rewards.cancel()

    def _parts(self, batch: PlannedBatch, rows: Sequence[NDArray[np.int32]]) -> list[PlannedBatch]:
        """Cut a batch into ones that the session has room for, or single rows."""
        limits = replace(self.limits, batch_tokens=max(self.session.capacity, 1))
        parts = plan_batches([len(rows[i]) for i in batch.rows], limits)
        return [replace(part, rows=batch.rows[part.rows]) for part in parts]


def load_engine(config: ScorerConfig) -> Engine:
    """Find the model that the configuration names, exporting a checkpoint if need be, and load it.

    Raises:
        ConfigError: settings that do not fit the artifact, or a checkpoint that cannot be
            exported here.
        ArtifactError, CheckpointError, ParityError, SessionError: as opening, exporting and
            loading raise them.
    """
    selected = select_provider(config.provider, config.device)
    artifact = find_artifact(config, provider_for(config.precision, config.provider, selected))
    precision = artifact.manifest.precision
    provider = provider_for(precision, config.provider, selected)
    if config.precision not in ("auto", precision):
        raise ConfigError(
            f"precision is {config.precision!r}, and {artifact.folder} is {precision}: "
            "leave it out, or name the checkpoint as the model"
        )
    try:
        engine = build_engine(
            artifact,
            provider,
            device=config.device,
            batch_size=config.batch_size,
            max_length=config.max_length,
            gpu_memory=config.gpu_memory,
            line_bytes=config.max_line_bytes,
        )
    except SessionError as error:
        if provider == "cpu" or not cpu_instead(error, config.provider, precision):
            raise
        # Of a checkpoint, the CPU gets an artifact in its own precision.
        return load_engine(config.model_copy(update={"provider": "cpu"}))
    if precision == "fp32" or not is_checkpoint(config.model):
        return engine
    in_fp32 = config.model_copy(update={"precision": "fp32"})

    @cache
    def wider() -> Engine | None:
        try:
            return load_engine(in_fp32)
        except HarmlessError as error:  # a row without a score does not end a run
            logger.warning("fp32 cannot be had: %s", error)
            return None

    return replace(engine, wider=wider)


def cpu_instead(error: SessionError, requested: str, precision: str) -> bool:
    """Tell whether the CPU takes the place of a GPU that cannot run the model, and log why.

    It does so only if the provider is `auto` and the CPU can run the precision. A GPU without
    enough memory is no reason: others may be using it, and a run on the CPU takes far longer.
    """
    if requested != "auto" or precision == "bf16" or isinstance(error, OutOfMemoryError):
        return False
    logger.warning("running on the CPU, because %s", error)
    return True


def build_engine(
    artifact: Artifact,
    provider: Provider,
    *,
    device: int = 0,
    batch_size: int = 8,
    max_length: int | None = None,
    gpu_memory: float | None = None,
    line_bytes: int = LINE_BYTES,
) -> Engine:
    """Load an opened artifact, and try it if it runs on a GPU.

    The settings are those of `ScorerConfig`.

    Raises:
        ConfigError: a setting does not fit the artifact.
        ArtifactError, SessionError: as the tokenizer, the session and its trial raise them.
    """
    manifest = artifact.manifest
    longest = max_length or manifest.max_length
    if longest > manifest.max_length:
        raise ConfigError(
            f"max_length {longest} exceeds the {manifest.max_length} of {artifact.folder}"
        )
    limits = plan_limits(provider, manifest.parameters, batch_size, longest, line_bytes)
    tokenizer = PairTokenizer(artifact.tokenizer, longest)
    most = max(limits.batch_tokens, longest)
    session = Session(artifact, provider, device, most, gpu_memory)
    if provider == "cuda":
        try_session(session, artifact, device)
    return Engine(artifact, tokenizer, session, limits)
