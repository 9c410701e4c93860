"""A configuration to something that scores: the artifact found, or made, and loaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.artifact import Artifact
from harmless_runtime.batching import Limits, pad, plan_batches, plan_limits
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError
from harmless_runtime.models import find_artifact
from harmless_runtime.providers import provider_for, select_provider
from harmless_runtime.session import Session
from harmless_runtime.tokenization import Encoded, PairTokenizer


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was run: the rows it scored, its size in tokens, and the padding in that."""

    rows: list[int]
    tokens: int
    padding: int


@dataclass(frozen=True)
class Engine:
    """An artifact, its tokenizer and its session, ready to score."""

    artifact: Artifact
    tokenizer: PairTokenizer
    session: Session
    limits: Limits

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
            float32 [len(encoded)], in the order given.

        Raises:
            SessionError: onnxruntime failed.
        """
        scores = np.empty(len(encoded), np.float32)
        alike: dict[bytes, list[int]] = {}
        for i, row in enumerate(encoded):
            alike.setdefault(row.ids.tobytes(), []).append(i)
        groups = list(alike.values())
        distinct = [encoded[group[0]].ids for group in groups]
        for batch in plan_batches(list(map(len, distinct)), self.limits.batch_tokens):
            ids = pad([distinct[i] for i in batch], self.artifact.manifest.pad_token_id)
            rewards = self.session.run(ids)
            rows = []
            for i, reward in zip(batch, rewards, strict=True):
                scores[groups[i]] = reward
                rows += groups[i]
            on_batch(Batch(rows, ids.size, ids.size - sum(len(distinct[i]) for i in batch)))
        return scores


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
    manifest = artifact.manifest
    provider = provider_for(manifest.precision, config.provider, selected)
    if config.precision not in ("auto", manifest.precision):
        raise ConfigError(
            f"precision is {config.precision!r}, and {artifact.folder} is {manifest.precision}: "
            "leave it out, or name the checkpoint as the model"
        )
    max_length = config.max_length or manifest.max_length
    if max_length > manifest.max_length:
        raise ConfigError(
            f"max_length {max_length} exceeds the {manifest.max_length} of {artifact.folder}"
        )
    limits = plan_limits(provider, manifest.parameters, config.batch_size, max_length)
    return Engine(
        artifact,
        PairTokenizer(artifact.tokenizer, max_length),
        Session(artifact, provider, config.device, max(limits.batch_tokens, max_length)),
        limits,
    )
