"""Values of numpy, pandas, polars and pyarrow, which are scored as the same values of Python."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from datasets import Dataset

from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import InputError

REQUESTS = ["Say a word.", "Translate to French.", "Go on."]
CONTEXTS = ["please", None, ""]
RESPONSES = ["Word.", "Bonjour.", "No."]
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": request}, {"role": "assistant", "content": response}]
    for request, response in zip(REQUESTS, RESPONSES, strict=True)
]
AsColumn = Callable[[list[Any]], Any]


@pytest.fixture(scope="module")
def scorer() -> Gpt2HarmlessScorer:
    return Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})


@pytest.fixture(scope="module")
def expected(scorer: Gpt2HarmlessScorer) -> list[float]:
    return list(scorer.score(REQUESTS, RESPONSES, CONTEXTS).tolist())


@pytest.fixture(scope="module")
def expected_of_chats(scorer: Gpt2HarmlessScorer) -> list[float]:
    return scorer.score_batch({"messages": CHATS})


def pandas_column(kind: str) -> AsColumn:
    """Return what makes a pandas column of some type."""
    return lambda texts: pd.Series(texts, dtype=kind)


PANDAS_TYPES = ["object", "str", "string", "string[pyarrow]", "category"]
COLUMNS: dict[str, AsColumn] = {
    "numpy, objects": lambda texts: np.array(texts, object),
    "numpy, masked": lambda texts: np.ma.masked_array(
        [text or "" for text in texts], [text is None for text in texts]
    ),
    "pyarrow": pa.array,
    "pyarrow, in chunks": lambda texts: pa.chunked_array([texts[:1], texts[1:]], pa.string()),
    "pyarrow, categories": lambda texts: pa.array(texts).dictionary_encode(),
    "pyarrow, a list of scalars": lambda texts: list(pa.array(texts)),
    "polars": pl.Series,
    "polars, categories": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "pandas, Arrow": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    **{f"pandas, {kind}": pandas_column(kind) for kind in PANDAS_TYPES},
}


@pytest.mark.parametrize("as_column", COLUMNS.values(), ids=list(COLUMNS))
def test_columns_with_missing_inputs(
    as_column: AsColumn, scorer: Gpt2HarmlessScorer, expected: list[float]
) -> None:
    columns = {
        "instruction": as_column(REQUESTS),
        "output": as_column(RESPONSES),
        "input": as_column(CONTEXTS),
    }
    assert scorer.score(*columns.values()).tolist() == expected
    assert scorer.score_batch(columns) == expected


@pytest.mark.parametrize("name", COLUMNS)
def test_a_text_that_is_missing_gets_no_score(name: str, scorer: Gpt2HarmlessScorer) -> None:
    outputs = COLUMNS[name](["Word.", None, "No."])
    with pytest.raises(InputError, match=r"item 1: Expected .*, got `null`"):
        scorer.score(REQUESTS, outputs)
    rewards = scorer.score(REQUESTS, outputs, on_error="nan")
    assert np.isnan(rewards).tolist() == [False, True, False]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_without_rows(name: str, scorer: Gpt2HarmlessScorer) -> None:
    empty = COLUMNS[name](["a", None])[:0]
    assert scorer.score(empty, empty, empty).shape == (0,)


MISSING = [
    None, float("nan"), np.float16("nan"), np.float32("nan"), np.longdouble("nan"),
    np.datetime64("NaT"), np.ma.masked, pd.NA, pd.NaT, pa.scalar(None, pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_each_value_that_stands_for_a_missing_one(
    missing: Any, scorer: Gpt2HarmlessScorer, expected: list[float]
) -> None:
    contexts = ["please", missing, missing]
    assert scorer.score(REQUESTS, RESPONSES, contexts).tolist() == expected
    row = {"instruction": REQUESTS[1], "input": missing, "output": RESPONSES[1]}
    assert scorer.score_item(row) == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.int64(0), "int"),
        (np.longdouble(0), "numpy.longdouble"),
        (np.bool_(False), "bool"),
        (pd.Timestamp("2020-01-01"), "Timestamp"),
        ({"text"}, "set"),
        (memoryview(b"text"), "array"),
        (np.array([]), "array"),
    ],
)
def test_other_values_are_no_inputs(value: Any, name: str, scorer: Gpt2HarmlessScorer) -> None:
    with pytest.raises(InputError, match=f"item 1: Expected `str . null`, got `{name}`"):
        scorer.score(REQUESTS, RESPONSES, ["", value, ""])


def through_parquet(chats: list[Any]) -> pd.DataFrame:
    """Return conversations as pandas reads them from a Parquet file: arrays of mappings."""
    file = io.BytesIO()
    pd.DataFrame({"messages": chats}).to_parquet(file)
    return pd.read_parquet(file)


def with_parts(chat: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row with arrays of parts in mappings in an array."""
    parts = [np.array([{"type": "text", "text": turn["content"]}], object) for turn in chat]
    turns = [turn | {"content": part} for turn, part in zip(chat, parts, strict=True)]
    return {"messages": np.array(turns, object)}


CONVERSATIONS: dict[str, Callable[[], Any]] = {
    "pandas' records": lambda: through_parquet(CHATS).to_dict("records"),
    "pandas' column": lambda: {"messages": through_parquet(CHATS)["messages"]},
    "polars' cells": lambda: [{"messages": cell} for cell in pl.Series(CHATS)],
    "polars' column": lambda: pl.DataFrame({"messages": CHATS}).to_dict(),
    "polars' rows": lambda: pl.DataFrame({"messages": CHATS}).iter_rows(named=True),
    "pyarrow's column": lambda: {"messages": pa.array(CHATS)},
    "pyarrow's rows": lambda: pa.table({"messages": CHATS}).to_struct_array(),
    "numpy's array of two dimensions": lambda: {"messages": np.array(CHATS)},
    "tuples": lambda: [{"messages": tuple(chat)} for chat in CHATS],
    "arrays at every depth": lambda: [with_parts(chat) for chat in CHATS],
}


@pytest.mark.parametrize("rows", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(
    rows: Callable[[], Any], scorer: Gpt2HarmlessScorer, expected_of_chats: list[float]
) -> None:
    assert scorer.score_batch(rows()) == expected_of_chats


def test_paths_lead_into_arrays(expected_of_chats: list[float]) -> None:
    fields = {"messages": "data.1.turns"}
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu", "columns": fields})
    rows = [{"data": np.array([None, {"turns": np.array(chat, object)}])} for chat in CHATS]
    assert scorer.score_batch(rows) == expected_of_chats


@pytest.mark.parametrize("batched", [True, False])
def test_datasets_in_numpys_format(
    batched: bool, scorer: Gpt2HarmlessScorer, expected_of_chats: list[float]
) -> None:
    score = scorer.score_batch if batched else scorer.score_item
    ds = Dataset.from_dict({"messages": CHATS}).with_format("numpy")
    ds = ds.map(lambda rows: {"score": score(rows)}, batched=batched)
    np.testing.assert_allclose(ds["score"], expected_of_chats, atol=1e-5)


def test_one_row_that_breaks_a_rule_leaves_the_others_alone(
    scorer: Gpt2HarmlessScorer, expected_of_chats: list[float]
) -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    bad = [endless, deep, [{("a", "key"): "that JSON does not have"}], [pd.NA]]
    rewards = scorer.score_batch({"messages": [*bad, *CHATS]}, on_error="nan")
    assert np.isnan(rewards).tolist() == [True] * 4 + [False] * 3
    np.testing.assert_allclose(rewards[4:], expected_of_chats, atol=1e-5)
    outputs = pa.array([b"Word.", b"\xff", b"No."]).view(pa.string())
    with pytest.raises(InputError, match="item 1: a text is not valid UTF-8"):
        scorer.score(REQUESTS, outputs)


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (np.array("a"), "ndarray without dimensions"),
        (pd.DataFrame({"a": ["b"]}), "DataFrame"),
        (pl.DataFrame({"a": ["b"]}), "DataFrame"),
        (pa.table({"a": ["b"]}), "Table"),
        ((text for text in "a"), "generator"),
    ],
)
def test_values_that_are_no_columns(column: Any, name: str, scorer: Gpt2HarmlessScorer) -> None:
    told = f"outputs is a {name}, and has to be a list, an array or a column"
    with pytest.raises(InputError, match=told):
        scorer.score(["a"], column)


def test_the_index_in_a_message_counts_within_the_batch(scorer: Gpt2HarmlessScorer) -> None:
    ds = Dataset.from_dict({"instruction": ["a"] * 6, "output": ["b"] * 5 + [None]})
    with pytest.raises(InputError, match="item 1: "):
        ds.map(lambda rows: {"score": scorer.score_batch(rows)}, batched=True, batch_size=4)
