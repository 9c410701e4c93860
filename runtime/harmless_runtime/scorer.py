"""Score rows, columns or whole files from Python."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.choices import ScorerName
from harmless_runtime.config import make_config
from harmless_runtime.errors import ConfigError, InputError
from harmless_runtime.item_scores import OnError, decoded_id, score_items
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.own_engine import OwnEngine
from harmless_runtime.pipeline import score_files
from harmless_runtime.read_ahead import ReadAhead
from harmless_runtime.rows.inputs import Inputs, open_inputs
from harmless_runtime.rows.items import TEXTS, Column, Items
from harmless_runtime.rows.shapes import reading_of
from harmless_runtime.run import Run, existing_mode, join_column, name_of, output_named
from harmless_runtime.scored import in_turn, raise_on_reject, refusal
from harmless_runtime.tally import Summary
from harmless_runtime.windows import Refused

logger = logging.getLogger(__name__)

_ASIDE = "evaluate_to_file sets such rows aside in a file of rejects"
# One input or several: files, folders, patterns and URLs.
Paths = str | Path | Sequence[str | Path]


class Gpt2HarmlessScorer:
    """Scores instruction/response pairs with a GPT-2 reward model. Higher is more harmless.

    A scorer can be pickled. The copy has the configuration alone, and loads the model when it
    first scores. So does a process that `fork` made of one with a scorer on the CPU; with a scorer
    on CUDA, such a process has to be started by `spawn`.

    Args:
        config: the keys of the YAML file, all optional.

    Raises:
        ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
            `model.load.load_engine`.
    """

    NAME: ClassVar[ScorerName] = "Gpt2HarmlessScorer"

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise ConfigError(
                f"the configuration is a {type(config).__name__}, and has to be a mapping",
                "yaml.safe_load makes a mapping of a file",
            )
        self.config = make_config({"name": self.NAME, **(config or {})})
        if self.config.name != self.NAME:
            raise ConfigError(f"name is {self.config.name}, and this is {self.NAME}")
        self._own_engine = OwnEngine(self.config)
        self._own_engine.get()

    def __getstate__(self) -> dict[str, Any]:
        # The path of a folder has to be right in any process. The artifact's hash is part of what
        # `datasets` names its caches by, so that another artifact gives another name.
        settings = self.config.model_dump(exclude_unset=True)
        if Path(self.config.model).is_dir():
            settings["model"] = str(Path(self.config.model).resolve())
        return {"config": settings, "model": self.engine.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.config = make_config(state["config"])
        self._own_engine = OwnEngine(self.config)

    @property
    def engine(self) -> Engine:
        """The engine of this process, which is loaded first if there is none."""
        return self._own_engine.get()

    @property
    def _for_files(self) -> Engine:
        """The engine without its way of scoring few rows, whose scores differ by rounding."""
        return replace(self.engine, few_rows=None)

    def score_item(self, item: Mapping[str, Any], *, on_error: OnError = "raise") -> float:
        """Return the reward of one row, in any shape that `score_batch` takes.

        Args:
            item: the row.
            on_error: as in `score_batch`.

        Raises:
            InputError: a field is missing or is not a string, or the reward is not finite.
        """
        return self.score_batch([item], on_error=on_error)[0]

    def score_batch(
        self,
        items: Iterable[Mapping[str, Any]] | Mapping[str, Column],
        *,
        on_error: OnError = "raise",
    ) -> list[float]:
        """Return the rewards of any number of rows, in their order.

        Args:
            items: a list of rows, or a mapping of names to columns, or a data frame of pandas,
                polars or pyarrow, as `datasets.map(batched=True)` hands them over. The rows have a
                shape that `harmless score` knows, or that the configuration's `columns` or `format`
                names.
            on_error: what becomes of a row that cannot be scored: an error, or the reward NaN and a
                warning.

        Raises:
            ConfigError: `items` is neither of these.
            InputError: a row cannot be scored. The message has its index, which counts from 0 among
                `items`: with `datasets.map(batched=True)`, among the rows of one batch.
        """
        rows = Items(items, reading_of(self.config))
        rewards: list[float] = score_items(rows, self.engine, on_error).tolist()
        return rewards

    def score(
        self,
        instructions: Column,
        outputs: Column,
        inputs: Column | None = None,
        *,
        on_error: OnError = "raise",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Return the rewards of columns of texts, as arrays, lists and data frames have them.

        Args:
            instructions: the requests: strings, or lists of messages.
            outputs: the responses to them: strings, or lists of messages.
            inputs: what is added to each request. "" adds nothing, and neither does a value that
                is missing: None, NaN, or the NA and NaT of pandas.
            on_error: as in `score_batch`.
            progress: show a progress bar.

        Returns:
            float32 [len(instructions)].

        Raises:
            InputError: the lengths differ, or a row cannot be scored.
        """
        columns = {"instructions": instructions, "outputs": outputs}
        if inputs is not None:
            columns["inputs"] = inputs
        rows = Items(columns, reading_of(self.config), TEXTS)
        return score_items(rows, self.engine, on_error, progress=progress)

    def evaluate(self, path: Paths) -> list[dict[str, Any]]:
        """Return `{"id", "score"}` for each row of one input or several, in order.

        An id that is a number out of Python's range is returned as its text.

        Args:
            path: what `harmless score` takes as well: a file, a folder, a pattern or a URL, or a
                list of them. The configuration's `format`, `columns` and `system` say how the rows
                are read.

        Raises:
            InputError: an input cannot be read, the list is empty, or a row cannot be scored.
                `evaluate_to_file` sets such rows aside instead.
            ConfigError: an input's name is neither a string nor a path.
            ShapeError: none of the first rows can be scored.
        """
        engine = self._for_files
        inputs = self._open(path)
        inputs.shape()
        results = []
        rows = raise_on_reject(inputs.rows(), partial(refusal, hint=_ASIDE))
        with ReadAhead(rows, engine.tokenizer, engine.limits) as windows:
            for window, scores in in_turn(windows.take, engine):
                if window.rejects:
                    raise refusal(window.rejects[0], _ASIDE)
                for row, score in zip(window.rows, scores.tolist(), strict=True):
                    if not math.isfinite(score):
                        refused = Refused(row.pair, engine.why_no_score(score))
                        raise refusal(refused.reject, _ASIDE)
                    results.append({"id": decoded_id(row.pair.id), "score": score})
        inputs.warn_of_empty()
        return results

    def evaluate_to_file(
        self,
        path: Paths,
        output_file: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        join: bool = False,
        score_column: str | None = None,
        details: bool = False,
    ) -> str:
        """Score one input or several into a file, as `harmless score` does; return its path.

        The file's name says its form: .jsonl, .csv or .tsv, each also with .gz or .zst, .parquet,
        or a folder (it exists, or its name ends in /). It may be the URL of an object in a store.

        Rows that cannot be scored go to a second file: `x.rejects.jsonl` for `x.jsonl`, and
        `x.parquet.rejects.jsonl` for `x.parquet`. A warning in the log says how many they are.

        Args:
            path: the rows, as `evaluate` takes them.
            output_file: the scores.
            overwrite: start again, and replace an output that exists.
            resume: continue an interrupted call. If no output exists, start a new one. If the
                same call has made it already, do nothing.
            join: write the rows themselves, each with its score.
            score_column: the field or column for the score, by default `harmless_score`.
            details: add `tokens`, `truncated`, `source` and `line` to each score.

        Raises:
            ConfigError: both `overwrite` and `resume` are set, or `score_column` without `join`; or
                a name is neither a string nor a path.
            InputError, ShapeError, OutputError, SessionError: as `pipeline.score_files`.
        """
        named = output_named(name_of(output_file, "the output"))
        existing = existing_mode(overwrite=overwrite, resume=resume)
        column = join_column(score_column, join=join, details=details)
        run = Run(
            self._open(path),
            named.output,
            existing,
            named.is_folder,
            named.url,
            join=column,
            details=details,
        )
        summary = score_files(run, self._for_files)
        if summary.tally.rejected:
            _tell_rejects(summary)
        return str(output_file)

    def _open(self, path: Paths) -> Inputs:
        several = path if isinstance(path, Iterable) and not isinstance(path, str) else [path]
        names = [name_of(name, "an input") for name in several]
        if not names:
            raise InputError("no input is named, because the list of them is empty")
        return open_inputs(names, reading_of(self.config))


def _tell_rejects(summary: Summary) -> None:
    reasons = "; ".join(f"{count:,} × {reason}" for reason, count in summary.reasons)
    logger.warning(
        "rows that could not be scored: %s, see %s%s",
        f"{summary.tally.rejected:,}",
        summary.rejects,
        f" ({reasons})" if reasons else "",
    )
