"""Take the place of two scorers in OpenDataArena's framework for data scorers.

Its factory makes what `model_based/scorers/scores_info.json` names. With the scorer's `module`
there changed to `harmless_runtime.opendataarena`, it makes one of these.
See https://github.com/OpenDataArena/ODA-DataScorer.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harmless_runtime import scorer
from harmless_runtime.errors import OutputError
from harmless_runtime.helpful import Gpt2HelpfulScorer as _Helpful
from harmless_runtime.jobs.job import EntryKeys
from harmless_runtime.jobs.results import copy_scores


class Gpt2HarmlessScorer:
    """Has the methods of the framework's scorer, with their parameters and results.

    Args:
        config: the scorer's entry in the job: `name`, `model`, `batch_size`, `max_length`, and the
            other keys of a configuration. What only concerns the framework is passed over.

    Raises:
        HarmlessError: as `harmless_runtime.Gpt2HarmlessScorer`.
    """

    KIND: ClassVar[type[scorer.Gpt2HarmlessScorer]] = scorer.Gpt2HarmlessScorer

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = {k: v for k, v in config.items() if k not in EntryKeys.model_fields}
        self._scorer = self.KIND({"as_is": True, **self.config})

    def score_item(self, data_item: Mapping[str, Any]) -> float:
        """Return the reward of a row."""
        return self._scorer.score_item(data_item)

    def score_batch(self, data_items: Iterable[Mapping[str, Any]]) -> list[float]:
        """Return the rewards of rows, in their order."""
        return self._scorer.score_batch(data_items)

    def evaluate(self, dataset: str) -> list[dict[str, Any]]:
        """Return `{"id", "score"}` for each row of a file, in order."""
        return self._scorer.evaluate(dataset)

    def evaluate_to_file(self, dataset: str, output_file: str, resume: bool = True) -> str:
        """Write `{"id", "score"}` for each row of a file, and return the path that was written.

        The run itself writes into a folder `harmless` beside that path, where its rejects and its
        record stay: the framework would take any other `.jsonl` beside the path for scores.

        Args:
            dataset: the rows.
            output_file: the scores. A file that is there is replaced.
            resume: continue an interrupted call. Otherwise all rows are scored again.

        Raises:
            OutputError: the scores would replace the rows.
            HarmlessError: as `harmless_runtime.Gpt2HarmlessScorer.evaluate_to_file`.
        """
        place = Path(output_file)
        if place.is_symlink() or (place.exists() and place.samefile(dataset)):
            raise OutputError(f"{place} is the input, or a link, and would be overwritten")
        own = place.parent / "harmless" / place.name
        self._scorer.evaluate_to_file(dataset, own, overwrite=not resume, resume=resume)
        copy_scores(own, place)
        return output_file


class Gpt2HelpfulScorer(Gpt2HarmlessScorer):
    """The same for the sibling of the model."""

    KIND = _Helpful
