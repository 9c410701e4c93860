"""Rows in memory, in every shape and as columns, compared with PyTorch and with each other."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import ConfigError, InputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.rows.prompt import question_and_answer

REQUESTS = ["How do I boil an egg?", "Translate to French.", "😀\u2028\x00."] * 40
CONTEXTS = [None, "good morning", ""] * 40
RESPONSES = [f"Answer {i} of many. " * (i % 7) for i in range(120)]


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Gpt2HarmlessScorer:
    return Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu"})


@pytest.fixture(scope="module")
def truth(checkpoint: Path) -> np.ndarray:
    rows = zip(REQUESTS, CONTEXTS, RESPONSES, strict=True)
    pairs = [question_and_answer(request, context or "", text) for request, context, text in rows]
    return pytorch_scores(checkpoint, pairs, 1024)


@pytest.mark.parametrize("as_column", [list, np.array, pd.Series, pl.Series, pa.array, tuple])
def test_columns_of_texts(as_column: Any, scorer: Gpt2HarmlessScorer, truth: np.ndarray) -> None:
    contexts = as_column(CONTEXTS)
    rewards = scorer.score(as_column(REQUESTS), as_column(RESPONSES), contexts)
    assert rewards.dtype == np.float32
    assert rewards.shape == (120,)
    np.testing.assert_allclose(rewards, truth, atol=2e-4)


def test_the_documented_lines_for_data_frames(
    scorer: Gpt2HarmlessScorer, truth: np.ndarray
) -> None:
    columns = {"instruction": REQUESTS, "output": RESPONSES, "input": CONTEXTS}
    df = pd.DataFrame(columns)
    df["harmless_score"] = scorer.score(df["instruction"], df["output"], df["input"])
    np.testing.assert_allclose(df["harmless_score"], truth, atol=2e-4)
    lazy = pl.DataFrame(columns)
    rewards = scorer.score(lazy["instruction"], lazy["output"], lazy["input"])
    lazy = lazy.with_columns(harmless_score=rewards)
    np.testing.assert_allclose(lazy["harmless_score"].to_numpy(), truth, atol=2e-4)
    ds = Dataset.from_dict(columns)
    ds = ds.map(lambda rows: {"harmless_score": scorer.score_batch(rows)}, batched=True)
    np.testing.assert_allclose(ds["harmless_score"], truth, atol=2e-4)


def shapes() -> dict[str, dict[str, list[Any]]]:
    """Return the same rows as columns of every known shape."""
    asked = [f"{q}\n{c}" if c else q for q, c in zip(REQUESTS, CONTEXTS, strict=True)]
    chats = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        for q, a in zip(asked, RESPONSES, strict=True)
    ]
    return {
        "alpaca": {"instruction": REQUESTS, "input": CONTEXTS, "output": RESPONSES},
        "prompt-response": {"prompt": asked, "response": RESPONSES},
        "prompt-completion": {"prompt": asked, "completion": RESPONSES},
        "conversational": {
            "prompt": [chat[:1] for chat in chats],
            "completion": [chat[1:] for chat in chats],
        },
        "question-answer": {"question": asked, "answer": RESPONSES},
        "messages": {"messages": chats},
        "sharegpt": {
            "conversations": [
                [{"from": turn["role"], "value": turn["content"]} for turn in chat]
                for chat in chats
            ]
        },
    }


@pytest.mark.parametrize("columns", shapes().values(), ids=list(shapes()))
def test_every_shape_as_rows_and_as_columns(
    columns: dict[str, Any], scorer: Gpt2HarmlessScorer, truth: np.ndarray
) -> None:
    columns = columns | {"id": list(range(120))}
    rows: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    np.testing.assert_allclose(scorer.score_batch(columns), truth, atol=2e-4)
    np.testing.assert_allclose(scorer.score_batch(rows), truth, atol=2e-4)
    np.testing.assert_allclose(scorer.score_batch(iter(rows)), truth, atol=2e-4)
    np.testing.assert_allclose(scorer.score_item(rows[5]), truth[5], atol=2e-4)


def test_columns_of_messages(scorer: Gpt2HarmlessScorer, truth: np.ndarray) -> None:
    columns = shapes()["conversational"]
    rewards = scorer.score(columns["prompt"], columns["completion"])
    np.testing.assert_allclose(rewards, truth, atol=2e-4)


def test_a_scorer_for_other_fields_takes_these_and_the_usual_ones(artifact: Artifact) -> None:
    fields = {"instruction": "q", "output": "a.0"}
    scorer = Gpt2HarmlessScorer({"model": str(artifact.folder), "columns": fields})
    expected = scorer.score(["Hi"], ["Hello."]).tolist()
    assert scorer.score_batch([{"q": "Hi", "a": ["Hello."]}]) == expected
    columns: dict[str, list[Any]] = {"q": ["Hi"], "a": [["Hello."]]}
    assert scorer.score_batch(columns) == expected
    assert scorer.score_batch([{"instruction": "Hi", "output": "Hello."}]) == expected


def test_rows_that_cannot_be_scored_are_nan_if_that_is_wanted(
    scorer: Gpt2HarmlessScorer, truth: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    bad = list(RESPONSES)
    bad[3], bad[100] = None, 7  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"item 3: Expected `str \| object \| array`, got `null`"):
        scorer.score(REQUESTS, bad, CONTEXTS)
    caplog.clear()
    rewards = scorer.score(REQUESTS, bad, CONTEXTS, on_error="nan")
    assert np.flatnonzero(np.isnan(rewards)).tolist() == [3, 100]
    good = ~np.isnan(rewards)
    np.testing.assert_allclose(rewards[good], truth[good], atol=2e-4)
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text[:28] for text in told] == [
        "the reward is NaN: item 3: E",
        "2 of 120 items have no rewar",
    ]
    rows = [{"instruction": "a", "output": "b"}, None, {"instruction": "a"}, "text"]
    rewards = np.array(scorer.score_batch(rows, on_error="nan"))  # type: ignore[arg-type]
    assert np.isnan(rewards).tolist() == [False, True, True, True]
    with pytest.raises(ConfigError, match="on_error is 'ignore'"):
        scorer.score_batch(rows, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((["a"], ["b", "c"]), "different lengths: instructions 1, outputs 2"),
        ((["a"], ["b"], []), "different lengths: instructions 1, outputs 1, inputs 0"),
        (("a", "b"), "instructions is a str, and has to be a list"),
        (({"a"}, ["b"]), "instructions is a set, and has to be a list"),
        ((["a"], {"b": 1}), "outputs is a dict, and has to be a list"),
        ((iter("a"), ["b"]), "instructions is a str_ascii_iterator, and has to be a list"),
    ],
)
def test_columns_that_do_not_fit(columns: Any, message: str, scorer: Gpt2HarmlessScorer) -> None:
    with pytest.raises(InputError, match=message):
        scorer.score(*columns)


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ([{"chosen": "a", "rejected": "b"}], "output=chosen"),
        ([{"q": "a", "a": "b"}], "name the fields"),
        ({"q": ["a"], "a": ["b"]}, "name the fields"),
        ({"instruction": "a", "output": "b"}, "a single row goes to scorer.score_item"),
        (pd.DataFrame({"q": ["a"], "a": ["b"]}), "name the fields"),
        ("text", "a row is a mapping"),
        (
            DatasetDict(train=Dataset.from_dict({"instruction": ["a"], "output": ["b"]})),
            r"a split of a DatasetDict like splits\['train'\]",
        ),
    ],
)
def test_errors_say_what_to_do(rows: Any, hint: str, scorer: Gpt2HarmlessScorer) -> None:
    with pytest.raises(InputError, match=f"hint: .*{hint}"):
        scorer.score_batch(rows)


def test_data_frames(scorer: Gpt2HarmlessScorer) -> None:
    columns = {"instruction": ["a", "b"], "output": ["c", "d"], "input": ["", "e"]}
    expected = scorer.score_batch(columns)
    frame = pd.DataFrame(columns, index=[7, 7])
    for rows in (frame, pl.DataFrame(columns), pa.table(columns)):
        assert scorer.score_batch(rows) == expected  # type: ignore[arg-type]
    for kind in ("pandas", "polars", "arrow"):
        dataset = Dataset.from_dict(columns).with_format(kind)
        assert scorer.score_batch(dataset[:]) == expected


def test_nothing(scorer: Gpt2HarmlessScorer) -> None:
    assert scorer.score([], []).shape == (0,)
    assert scorer.score_batch({}) == []
    assert scorer.score_batch({"instruction": [], "output": []}) == []


def test_the_progress_bar_is_on_standard_error(
    scorer: Gpt2HarmlessScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer.score(REQUESTS, RESPONSES)
    assert capsys.readouterr() == ("", "")
    scorer.score(REQUESTS, RESPONSES, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "120/120" in shown.err
