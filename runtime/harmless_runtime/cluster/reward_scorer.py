"""Score the batches of a data pipeline, as Ray Data's `map_batches` hands them over."""

import sys
from typing import Any

import numpy as np

from harmless_runtime.choices import DEFAULT_MODEL, SCORE_COLUMN
from harmless_runtime.errors import ConfigError
from harmless_runtime.item_scores import OnError
from harmless_runtime.scorer import Gpt2HarmlessScorer


class RewardScorer:
    """Adds a column of scores to batches of rows. Higher is more harmless.

    It is made for `Dataset.map_batches` of Ray Data, which keeps one in each of its actors:

        ds.map_batches(RewardScorer, fn_constructor_kwargs={"model": "artifact"},
                       compute=ActorPoolStrategy(size=4), num_gpus=1, batch_size=1024,
                       batch_format="pyarrow")

    In Ray's other formats a column of JSON is one of texts, which are scored with their quotes.

    Ray shows each actor its own GPU only. On a CPU, a session has as many threads as `num_cpus`
    gives the actor, because Ray sets OMP_NUM_THREADS to that.

    Args:
        model: an artifact's folder that all nodes reach, a checkpoint, or `demo`.
        column: the name of the new column. A column that has it is replaced.
        on_error: what becomes of a row that cannot be scored: the score NaN and a warning, or an
            error, which ends the whole pipeline.
        **config: further keys of the configuration, such as `columns` or `max_length`.

    Raises:
        ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
            `Gpt2HarmlessScorer`.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        column: str = SCORE_COLUMN,
        on_error: OnError = "nan",
        **config: Any,
    ) -> None:
        self._scorer = Gpt2HarmlessScorer({"model": model, **config})
        self._column = column
        self._on_error = on_error

    def __call__(self, batch: Any) -> Any:
        """Return the batch with a float32 column of scores.

        Args:
            batch: a mapping of names to arrays, or a table of pandas or pyarrow, in any shape of
                rows that `harmless score` knows.

        Raises:
            InputError: a row cannot be scored, and `on_error` is `raise`.
            ConfigError: the batch is of another type.
        """
        scores = np.array(self._scorer.score_batch(batch, on_error=self._on_error), np.float32)
        if isinstance(batch, dict):
            return {**batch, self._column: scores}
        pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
        if pandas is not None and isinstance(batch, pandas.DataFrame):
            return batch.assign(**{self._column: scores})
        if pyarrow is not None and isinstance(batch, pyarrow.Table):
            if self._column in batch.column_names:
                batch = batch.drop_columns([self._column])
            return batch.append_column(self._column, pyarrow.array(scores))
        raise ConfigError(
            f"a batch is a {type(batch).__name__}",
            "batch_format of map_batches is numpy, pandas or pyarrow",
        )
