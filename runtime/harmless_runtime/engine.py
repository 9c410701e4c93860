"""A configuration to something that scores: the artifact found, or made, and loaded."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmless_runtime import __version__
from harmless_runtime.artifact import Artifact, is_artifact, open_artifact
from harmless_runtime.batching import Limits, pad, plan_batches, plan_limits
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ArtifactError, ConfigError
from harmless_runtime.session import (
    Provider,
    Session,
    check_precision,
    provider_for,
    select_provider,
)
from harmless_runtime.tokenization import Encoded, PairTokenizer

logger = logging.getLogger(__name__)

DEMO_MODEL = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo_model"


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


def find_artifact(config: ScorerConfig, provider: Provider) -> Artifact:
    """Open the artifact that `model` names: `demo`, a folder, or a checkpoint's cached export."""
    if config.model == DEMO_MODEL:
        return open_artifact(DEMO_FOLDER)
    folder = Path(os.path.expanduser(config.model))  # noqa: PTH111 - raises for no user
    if is_artifact(folder):
        return open_artifact(folder)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise ArtifactError(
            f"{folder} is neither an artifact (it has no scorer.json) nor a checkpoint "
            "(it has no config.json)"
        )
    if not folder.is_dir() and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", config.model):
        raise ConfigError(f"model is {config.model!r}, and there is no such folder")
    precision = config.precision
    if precision == "auto":
        precision = "fp16" if provider == "cuda" else "fp32"
    check_precision(precision, provider, config.model)
    if not folder.is_dir():
        logger.info("there is no folder %s: it is taken as a Hugging Face id", config.model)
    # Another release may export another graph.
    name = f"{_cache_key(config.model, folder)}-{precision}-{__version__}"
    cached = _cache_folder() / name
    if is_artifact(cached):
        logger.info("using the export of %s in %s", config.model, cached)
        return open_artifact(cached)
    try:
        from harmless_export import export_checkpoint
    except ImportError:
        raise ConfigError(
            f"{config.model} is a checkpoint, and this installation cannot export one: "
            "pip install '.[export]' in the project's folder, then harmless export "
            f"{config.model} -o DIR and harmless score --model DIR (DIR can be made on another "
            "machine)"
        ) from None
    logger.info("exporting %s once, in %s, to %s", config.model, precision, cached)
    cached.parent.mkdir(parents=True, exist_ok=True)
    return export_checkpoint(config.model, cached, precision=precision)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "harmless-scorer"


def _cache_key(model: str, folder: Path) -> str:
    """Name the export: an id as it is; a folder by its path and its files' sizes and times."""
    if not folder.is_dir():
        return model.replace("/", "--")
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for file in sorted(folder.iterdir()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{folder.resolve().name}-{digest.hexdigest()[:16]}"
