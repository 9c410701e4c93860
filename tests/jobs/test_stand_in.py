"""Our scorers in the place of OpenDataArena's, made by a factory and called as its program does."""

import inspect
import json
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from harmless_export.reference import pytorch_scores
from harmless_runtime import bundled
from harmless_runtime.errors import OutputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.rows.prompt import question_and_answer
from reading import names_in, read_rows


class BaseScorer(ABC):
    """Stands for the framework's base class: the same methods with the same parameters."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self._validate_config()
        self._setup()

    @abstractmethod
    def _validate_config(self) -> None: ...

    @abstractmethod
    def _setup(self) -> None: ...

    @abstractmethod
    def score_item(self, data_item: dict[str, Any]) -> float: ...

    @abstractmethod
    def evaluate(self, dataset: str) -> list[dict[str, Any]]: ...


class Original(BaseScorer):
    """Stands for the original scorer: PyTorch, here in fp32, with all methods that it has."""

    def _validate_config(self) -> None: ...

    def _setup(self) -> None: ...

    def score_item(self, data_item: dict[str, Any]) -> float:
        return self.score_batch([data_item])[0]

    def score_batch(self, data_items: list[dict[str, Any]]) -> list[float]:
        texts = [
            question_and_answer(row["instruction"], row.get("input", ""), row["output"])
            for row in data_items
        ]
        scores = pytorch_scores(self.config["model"], texts, self.config["max_length"])
        return [float(score) for score in scores]

    def evaluate(self, dataset: str) -> list[dict[str, Any]]:
        rows = read_rows(Path(dataset))
        scores = self.score_batch(rows)
        return [{"id": r.get("id", ""), "score": s} for r, s in zip(rows, scores, strict=True)]

    def evaluate_to_file(self, dataset: str, output_file: str, resume: bool = True) -> str:
        assert not resume
        lines = [json.dumps(line) + "\n" for line in self.evaluate(dataset)]
        Path(output_file).write_text("".join(lines))
        return output_file


def make(module: str, name: str, params: dict[str, Any]) -> Any:
    """Make a scorer as the framework's factory does it: by the names of a module and a class."""
    return getattr(import_module(module), name)(params)


PARAMS = {
    "name": "Gpt2HarmlessScorer", "model": "demo", "batch_size": 8, "max_length": 1024,
    "num_gpu_per_job": 1, "resume": False, "provider": "cpu",
}  # fmt: skip
STAND_IN = "harmless_runtime.opendataarena"


@pytest.mark.parametrize("name", ["Gpt2HarmlessScorer", "Gpt2HelpfulScorer"])
def test_methods_have_the_parameters_and_results_of_the_originals(
    name: str, artifact: Artifact, checkpoint: Path, tmp_path: Path
) -> None:
    params = PARAMS | {"name": name}
    ours = make(STAND_IN, name, params | {"model": str(artifact.folder)})
    theirs = Original(params | {"model": checkpoint})
    for method in ("score_item", "score_batch", "evaluate", "evaluate_to_file"):
        own, other = (inspect.signature(getattr(s, method)).parameters for s in (ours, theirs))
        assert list(own) == list(other)
        assert [p.default for p in own.values()] == [p.default for p in other.values()]
    rows = read_rows(bundled.ROWS)[:9]
    assert ours.score_item(rows[0]) == pytest.approx(theirs.score_item(rows[0]), abs=2e-4)
    assert ours.score_batch(rows) == pytest.approx(theirs.score_batch(rows), abs=2e-4)
    assert_alike(ours.evaluate(str(bundled.ROWS)), theirs.evaluate(str(bundled.ROWS)))
    files = [str(tmp_path / f"{n}/{name}.jsonl") for n in ("a", "b")]
    Path(files[1]).parent.mkdir()
    for scorer, file in zip((ours, theirs), files, strict=True):
        assert scorer.evaluate_to_file(str(bundled.ROWS), file, resume=False) == file
    assert_alike(read_rows(Path(files[0])), read_rows(Path(files[1])))


def assert_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert [list(line) for line in ours] == [list(line) for line in theirs]
    assert [line["id"] for line in ours] == [line["id"] for line in theirs]
    scores = [[line["score"] for line in lines] for lines in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-4)


def test_the_folder_holds_no_other_lines_that_could_be_taken_for_scores(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "a", "output": "b"}\n{\n')
    scorer = make(STAND_IN, "Gpt2HarmlessScorer", PARAMS)
    out = tmp_path / "scorer/Gpt2HarmlessScorer.jsonl"
    scorer.evaluate_to_file(str(rows), str(out), resume=False)
    assert names_in(out.parent) == ["Gpt2HarmlessScorer.jsonl", "harmless"]
    assert [line["id"] for line in read_rows(out)] == [1]
    assert len(read_rows(out.parent / "harmless/Gpt2HarmlessScorer.rejects.jsonl")) == 1


def test_the_rows_are_not_written_over(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "a", "output": "b"}\n')
    scorer = make(STAND_IN, "Gpt2HarmlessScorer", PARAMS)
    with pytest.raises(OutputError, match="is the input"):
        scorer.evaluate_to_file(str(rows), str(rows), resume=False)
    assert read_rows(rows)[0]["instruction"] == "a"


def test_resume_goes_on_and_otherwise_all_is_scored_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "a", "output": "b"}\n')
    out = str(tmp_path / "scores.jsonl")
    scorer = make(STAND_IN, "Gpt2HarmlessScorer", PARAMS)
    scorer.evaluate_to_file(str(rows), out)
    record = tmp_path / "harmless/scores.jsonl.run.json"
    before = record.stat().st_mtime_ns
    scorer.evaluate_to_file(str(rows), out)
    assert record.stat().st_mtime_ns == before
    rows.write_text(rows.read_text().replace("1", "2"))
    scorer.evaluate_to_file(str(rows), out, resume=False)
    assert [line["id"] for line in read_rows(Path(out))] == [2]
