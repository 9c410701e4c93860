"""Score single items or whole files from Python."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.config import make_config
from harmless_runtime.errors import ConfigError, InputError
from harmless_runtime.model.load import load_engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import Inputs, open_inputs
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.shapes import reading_of
from harmless_runtime.run import Run, existing_mode, join_column, output_named
from harmless_runtime.scored import raise_on_reject, refusal, rejected
from harmless_runtime.windows import ReadAhead


class Gpt2HarmlessScorer:
    """Scores instruction/response pairs with a GPT-2 reward model. Higher is more harmless.

    Args:
        config: the keys of the YAML file, all optional.

    Raises:
        ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
            `model.load.load_engine`.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise ConfigError(
                f"the configuration is a {type(config).__name__}, and has to be a mapping",
                "yaml.safe_load makes a mapping of a file",
            )
        self.config = make_config(dict(config or {}))
        self._engine = load_engine(self.config)

    def score_item(self, item: Mapping[str, Any]) -> float:
        """Return the reward of one item with `instruction`, `output` and, optionally, `input`.

        Raises:
            InputError: a field is missing or is not a string, or the reward is not finite.
        """
        return self.score_batch([item])[0]

    def score_batch(self, items: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the rewards of any number of items, in their order.

        Raises:
            InputError: as `score_item`, with the index of the item.
        """
        pairs = [_pair(index, item) for index, item in enumerate(items)]
        scores = self._engine.score(self._engine.tokenizer.encode(pairs))
        rewards: list[float] = scores.tolist()
        for index, reward in enumerate(rewards):
            if not math.isfinite(reward):
                raise InputError(f"item {index}: {self._engine.why_no_score(reward)}")
        return rewards

    def evaluate(self, path: str | Path) -> list[dict[str, Any]]:
        """Return `{"id", "score"}` for each row of an input, in order.

        An id that is a number out of Python's range is returned as its text.

        Args:
            path: what `harmless score` takes as well: a file, a folder, a pattern or a URL. The
                configuration's `format`, `columns` and `system` say how its rows are read.

        Raises:
            InputError: the input cannot be read, or a row cannot be scored. `evaluate_to_file` sets
                such rows aside instead.
            ShapeError: none of the first rows can be scored.
        """
        engine = self._engine
        inputs = self._open(path)
        inputs.shape()
        results = []
        with ReadAhead(inputs.rows(), engine.tokenizer, engine.limits) as windows:
            for window in raise_on_reject(windows):
                scores = engine.score([row.encoded for row in window.rows]).tolist()
                for row, score in zip(window.rows, scores, strict=True):
                    if not math.isfinite(score):
                        raise refusal(rejected(row.pair, engine.why_no_score(score)))
                    results.append({"id": _decode_id(row.pair.id), "score": score})
        return results

    def evaluate_to_file(
        self,
        path: str | Path,
        output_file: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        join: bool = False,
        score_column: str | None = None,
    ) -> str:
        """Score an input into a file, as `harmless score` does, and return the file's path.

        The file's name says its form: .jsonl, .csv or .tsv, each also with .gz or .zst, .parquet,
        or a folder (it exists, or its name ends in /).

        Rows that cannot be scored go to a second file: `x.rejects.jsonl` for `x.jsonl`, and
        `x.parquet.rejects.jsonl` for `x.parquet`.

        Args:
            path: the rows, as `evaluate` takes them.
            output_file: the scores.
            overwrite: start again, and replace an output that exists.
            resume: continue an interrupted call. If no output exists, start a new one. If the
                same call has made it already, do nothing.
            join: write the rows themselves, each with its score.
            score_column: the field or column for the score, by default `harmless_score`.

        Raises:
            ConfigError: both `overwrite` and `resume` are set, or `score_column` without `join`.
            InputError, ShapeError, OutputError, SessionError: as `pipeline.score_files`.
        """
        output, is_folder = output_named(str(output_file))
        existing = existing_mode(overwrite=overwrite, resume=resume)
        column = join_column(score_column, join=join, details=False)
        score_files(Run(self._open(path), output, existing, is_folder, column), self._engine)
        return str(output_file)

    def _open(self, path: str | Path) -> Inputs:
        return open_inputs([str(path)], reading_of(self.config))


def _decode_id(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:  # a number that Python does not read, such as 1e99999
        return text.decode()


def _pair(index: int, item: Mapping[str, Any]) -> tuple[str, str]:
    if not isinstance(item, Mapping):
        raise InputError(f"item {index} is a {type(item).__name__}, and has to be a mapping")
    for key in ("instruction", "output"):
        if key not in item:
            raise InputError(f"item {index}: missing field {key!r}")
    context = "" if item.get("input") is None else item["input"]
    texts = [item["instruction"], context, item["output"]]
    for key, text in zip(("instruction", "input", "output"), texts, strict=True):
        if not isinstance(text, str):
            raise InputError(f"item {index}: {key} is {text!r:.80}, and has to be a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"item {index}: {key} cannot be encoded: {error.reason}") from None
    return question_and_answer(*texts)
