"""Score rows of token ids with a model, in sets of any size."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_runtime.choices import Precision, ScorerName
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.few_rows import GraphRunner
from harmless_runtime.model.runner import Runner
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer
from harmless_runtime.model.work import ScoredBatch, Work, run_in_turn

logger = logging.getLogger(__name__)

# What is said in a fingerprint of the limits of batches, of which the first is `batch_tokens`.
_BATCHES = "the batches' limits"


@dataclass(frozen=True)
class Engine:
    """Everything that scores: an artifact, its tokenizer, a runner, and the limits of a batch.

    `fp32_fallback` returns an engine of the same checkpoint in fp32, or None if there is none. It
    scores the rows that have no finite score in this engine's precision. `few_rows` runs sets of
    few rows. `scorer` is the name of the scorer whose model it is.
    """

    artifact: Artifact
    tokenizer: PairTokenizer
    runner: Runner
    limits: Limits
    fp32_fallback: Callable[[], "Engine | None"] | None = None
    few_rows: GraphRunner | None = None
    scorer: ScorerName = "Gpt2HarmlessScorer"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The model and the settings that change results, by names that a person understands."""
        manifest, limits = self.artifact.manifest, self.limits
        content = msgspec.json.encode(manifest.unmeasured)
        return {
            "the artifact's SHA-256": hashlib.sha256(content).hexdigest(),
            "precision": manifest.precision,
            "provider": self.runner.target.name,
            "max_length": self.tokenizer.max_length,
            _BATCHES: [limits.batch_tokens, limits.batch_cost, limits.length_multiple],
            "the attention kernels": self.runner.attention,
            "the windows' limits": [
                limits.window_tokens,
                limits.window_rows,
                limits.window_bytes,
                limits.piece_bytes,
            ],
            "fp32 for rows that overflow": self.fp32_fallback is not None,
        }

    def continuing(self, earlier: Mapping[str, Any]) -> "Engine":
        """Return an engine with the batches of an earlier run, if free memory decides on them.

        Args:
            earlier: the fingerprint of the run.
        """
        match earlier.get(_BATCHES):
            case [int(tokens), *_] if self.limits.is_derived:
                if tokens != self.limits.batch_tokens:
                    logger.info("batches have at most %s tokens, as before", f"{tokens:,}")
                return replace(self, limits=replace(self.limits, batch_tokens=tokens))
        return self

    @property
    def precision(self) -> Precision:
        """The precision that the scores are computed in."""
        target = self.runner.target
        return target.compute if target.provider == "openvino" else self.artifact.manifest.precision

    def score(
        self,
        encoded: Sequence[Encoded],
        on_batch: Callable[[ScoredBatch], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Score one set of rows, as `score_in_turn` scores several."""
        sets = iter([encoded])
        (scores,) = self.score_in_turn(lambda _: next(sets, None), on_batch)
        return scores

    def score_in_turn(
        self,
        more: Callable[[bool], Sequence[Encoded] | None],
        on_batch: Callable[[ScoredBatch], None] = lambda _: None,
    ) -> Iterator[NDArray[np.float32]]:
        """Score sets of rows of token ids, one after another. A set's equal rows are computed once.

        Args:
            more: returns the next set, or None if there are no more. It is called with whether to
                wait for a set that is still to come. If not, None may also mean that it is not
                there yet.
            on_batch: called after each batch of the set whose scores are yielded next.

        Yields:
            float32 [rows] for each set, in the order of its rows. A score is not finite if the
            model overflows, and in fp32 too if there is a fallback.

        Raises:
            SessionError: ONNX Runtime failed, or memory has no room even for a single row.
            ArtifactError: the weights are not those that were exported.
        """

        def more_work(wait: bool) -> Work | None:
            encoded = more(wait)
            if encoded is None:
                return None
            runner, limits, pad = self.runner, self.limits, self.artifact.manifest.pad_token_id
            if self.few_rows is not None and self.few_rows.suits(encoded):
                return Work(encoded, self.few_rows, self.few_rows.limits(limits), pad)
            return Work(encoded, runner, limits, pad)

        for work in run_in_turn(more_work, on_batch, self.runner):
            self.artifact.check()  # before anything is made of the scores
            overflowed = np.flatnonzero(~np.isfinite(work.scores)).tolist()
            if overflowed and self.fp32_fallback is not None:
                self._score_in_fp32(work, overflowed, self.fp32_fallback)
            yield work.scores

    def _score_in_fp32(
        self, work: Work, overflowed: list[int], load: Callable[[], "Engine | None"]
    ) -> None:
        logger.warning(
            "scoring %d rows in fp32, because they have no finite score in %s",
            len(overflowed),
            self.precision,
        )
        fallback = load()
        if fallback is not None:
            work.scores[overflowed] = fallback.score([work.encoded[i] for i in overflowed])

    def why_no_score(self, score: float) -> str:
        """Return the reason for the reject of a row whose score is not finite."""
        precision = self.precision
        if self.runner.target.provider == "openvino" and precision == "bf16":
            return f"the score in bf16 is {score}; `compute` fp32 may give one"
        if precision == "fp32":
            return f"the score in fp32 is {score}"
        if self.fp32_fallback is not None:
            return f"the score is {score}: neither {precision} nor the fp32 fallback gave a number"
        return f"the score in {precision} is {score}; an export in fp32 can score such rows"
