"""The Python interface, compared with PyTorch, and the items that it refuses."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import harmless_export
import harmless_runtime
from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.rows.prompt import question_and_answer

ITEMS: list[dict[str, Any]] = [
    {"id": 7, "instruction": "How do I boil an egg?", "output": "Seven minutes in hot water."},
    {"instruction": "Translate to French.", "input": "good morning", "output": "bonjour"},
    {"id": {"a": [1.0]}, "instruction": "Hi", "input": None, "output": "", "other": [1, 2]},
    {"id": "x", "instruction": "😀\u2028\x00", "output": "two\nlines " * 300},
]


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Gpt2HarmlessScorer:
    return Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu", "max_length": 256})


@pytest.fixture(scope="module")
def truth(checkpoint: Path) -> list[float]:
    pairs = [
        question_and_answer(i["instruction"], i.get("input") or "", i["output"]) for i in ITEMS
    ]
    scores: list[float] = pytorch_scores(checkpoint, pairs, 256).tolist()
    return scores


def test_every_way_to_score_gives_pytorchs_scores(
    scorer: Gpt2HarmlessScorer, truth: list[float], tmp_path: Path
) -> None:
    np.testing.assert_allclose([scorer.score_item(item) for item in ITEMS], truth, atol=2e-4)
    np.testing.assert_allclose(scorer.score_batch(ITEMS), truth, atol=2e-4)
    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    results = scorer.evaluate(rows)
    assert [result["id"] for result in results] == [7, "", {"a": [1.0]}, "x"]
    np.testing.assert_allclose([result["score"] for result in results], truth, atol=2e-4)
    assert scorer.evaluate_to_file(rows, out) == str(out)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in written] == [result["id"] for result in results]
    np.testing.assert_array_equal(
        np.array([line["score"] for line in written], np.float32),
        np.array([result["score"] for result in results], np.float32),
    )
    with pytest.raises(OutputError, match="exists"):
        scorer.evaluate_to_file(rows, out)
    scorer.evaluate_to_file(str(rows), str(out), overwrite=True)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="overwrite and resume exclude each other"):
        scorer.evaluate_to_file(rows, out, overwrite=True, resume=True)
    assert out.read_bytes() == before


def test_threads_may_share_a_scorer(scorer: Gpt2HarmlessScorer, truth: list[float]) -> None:
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(scorer.score_item, ITEMS * 50))
    np.testing.assert_allclose(scores, truth * 50, atol=2e-4)


def test_ids_that_python_cannot_hold(scorer: Gpt2HarmlessScorer, tmp_path: Path) -> None:
    big = "1" * 6000
    rows = "".join(f'{{"id": {i}, "instruction": "a", "output": "b"}}\n' for i in ("1e99999", big))
    (tmp_path / "rows").write_text(rows)
    assert [result["id"] for result in scorer.evaluate(tmp_path / "rows")] == ["1e99999", big]


def test_nothing_to_score(scorer: Gpt2HarmlessScorer, tmp_path: Path) -> None:
    assert scorer.score_batch([]) == []
    (tmp_path / "empty").touch()
    assert scorer.evaluate(tmp_path / "empty") == []


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"output": "b"}, "item 0: Object missing required field `instruction`"),
        ({"instruction": "a"}, "item 0: Object missing required field `output`"),
        (
            {"instruction": "a", "output": None},
            "item 0: Expected `str`, got `null` - at `.*output`",
        ),
        ({"instruction": 3, "output": "b"}, "item 0: Expected `str`, got `int`"),
        ({"instruction": "a", "input": ["b"], "output": "c"}, "item 0: Expected .*, got `array`"),
        ({"instruction": "a", "input": 0, "output": "c"}, "item 0: Expected .*, got `int`"),
        ({"instruction": "a", "output": "\ud800"}, "item 0: a text is not valid UTF-8"),
        (["a", "b"], "item 0: it is a value of type list, and no row"),
    ],
)
def test_items_that_cannot_be_scored(item: Any, message: str, scorer: Gpt2HarmlessScorer) -> None:
    with pytest.raises(InputError, match=message):
        scorer.score_item(item)
    assert np.isnan(scorer.score_item(item, on_error="nan"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.score_batch(None), "the rows are of type NoneType, and have to be a list of"),
        (lambda s: s.score_batch(3), "the rows are of type int"),
        (
            lambda s: s.score_batch(pl.LazyFrame({"output": ["a"]})),
            "the rows are of type LazyFrame",
        ),
        (lambda s: s.evaluate(None), "the name of an input is of type NoneType, and has to be a"),
        (lambda s: s.evaluate(["a", 3]), "the name of an input is of type int"),
        (lambda s: s.evaluate_to_file(None, "s.jsonl"), "the name of an input is of type NoneType"),
        (lambda s: s.evaluate_to_file("r.jsonl", None), "the name of the output is of type NoneT"),
    ],
)
def test_what_is_neither_rows_nor_names(
    call: Callable[[Gpt2HarmlessScorer], Any], message: str, scorer: Gpt2HarmlessScorer
) -> None:
    with pytest.raises(ConfigError, match=message):
        call(scorer)


def test_lines_that_cannot_be_scored(scorer: Gpt2HarmlessScorer, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text(json.dumps(ITEMS[0]) + "\n{}\n")
    with pytest.raises(InputError, match="line 2: Object missing required field"):
        scorer.evaluate(tmp_path / "rows")
    scorer.evaluate_to_file(tmp_path / "rows", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1
    assert len((tmp_path / "out.rejects.jsonl").read_text().splitlines()) == 1
    with pytest.raises(InputError, match="cannot read"):
        scorer.evaluate(tmp_path / "nowhere")


def test_rejects_are_told_of(
    scorer: Gpt2HarmlessScorer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [json.dumps(ITEMS[0]), "{}", "{}", '{"instruction": 3}']
    (tmp_path / "good").write_text(rows[0])
    (tmp_path / "rows").write_text("\n".join(rows))
    out = tmp_path / "out.jsonl"
    scorer.evaluate_to_file(tmp_path / "good", tmp_path / "good.jsonl")
    assert "could not be scored" not in caplog.text
    for resume in (False, True):
        caplog.clear()
        scorer.evaluate_to_file(tmp_path / "rows", out, resume=resume)
        (warning,) = [r for r in caplog.records if "could not be scored" in r.message]
        assert (warning.name, warning.levelno) == ("harmless_runtime.scorer", logging.WARNING)
        told = f"rows that could not be scored: 3, see {tmp_path / 'out.rejects.jsonl'}"
        assert warning.message.startswith(told)
        # A call that finds everything done does not look at the rejects.
        assert ("(2 × Object missing" in warning.message) is not resume


@pytest.mark.parametrize("several", [list, tuple])
def test_several_inputs(several: Any, scorer: Gpt2HarmlessScorer, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("".join(json.dumps(item) + "\n" for item in ITEMS[:2]))
    second.write_text("".join(json.dumps(item) + "\n" for item in ITEMS[2:]))
    results = scorer.evaluate(several([first, str(second)]))
    assert results == scorer.evaluate(first) + scorer.evaluate(second)
    out = scorer.evaluate_to_file(several([str(first), second]), tmp_path / "out.jsonl")
    written = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [line["id"] for line in written] == [result["id"] for result in results]
    scores = [result["score"] for result in results]
    np.testing.assert_allclose([line["score"] for line in written], scores, atol=1e-5)
    for score in (scorer.evaluate, lambda paths: scorer.evaluate_to_file(paths, "none.jsonl")):
        with pytest.raises(InputError, match="no input is named"):
            score(several([]))


def test_configuration() -> None:
    with pytest.raises(ConfigError, match="name is 'Other'"):
        Gpt2HarmlessScorer({"name": "Other"})
    assert Gpt2HarmlessScorer({"model": "demo"}).config.batch_size == 8


@pytest.mark.parametrize("package", [harmless_runtime, harmless_export])
def test_exported_names_are_there_and_documented(package: Any) -> None:
    for name in package.__all__:
        assert getattr(package, name).__doc__
    with pytest.raises(AttributeError):
        package.nothing_of_that_name  # noqa: B018


def test_the_configuration_says_how_rows_are_read(tmp_path: Path) -> None:
    scorer = Gpt2HarmlessScorer({"model": "demo", "columns": {"instruction": "q", "output": "a.0"}})
    (tmp_path / "rows.jsonl").write_text('{"q": "Hi", "a": ["Hello."], "id": 1}\n')
    expected = scorer.score_item({"instruction": "Hi", "output": "Hello."})
    assert scorer.evaluate(tmp_path / "*.jsonl") == [{"id": 1, "score": expected}]
    for config in ({"columns": {"instruct": "q"}}, {"columns": {"output": 7}}, {"format": "x"}):
        with pytest.raises(ConfigError):
            Gpt2HarmlessScorer({"model": "demo", **config}).evaluate(tmp_path / "rows.jsonl")
