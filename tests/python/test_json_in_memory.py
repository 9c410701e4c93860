"""Columns of JSON in memory are scored as the values that they hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from forms import read
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.cluster import RewardScorer
from harmless_runtime.rows.items import Items
from harmless_runtime.rows.records import Pair
from harmless_runtime.rows.shapes import Reading

ROWS: dict[str, list[dict[str, Any]]] = {
    "texts": [
        {"instruction": "How do I boil an egg?", "output": "Seven minutes."},
        {"instruction": "What is 2+2?", "output": 4},
    ],
    "contents": [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": 5}]},
    ],
}


@pytest.fixture(scope="module")
def scorer() -> Gpt2HarmlessScorer:
    return Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})


@pytest.fixture(params=ROWS)
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return ROWS[request.param]


@pytest.fixture
def ds(rows: list[dict[str, Any]], tmp_path: Path) -> datasets.Dataset:
    """What datasets makes of JSON lines, whose values have several types."""
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = datasets.Dataset.from_json(str(tmp_path / "r.jsonl"), cache_dir=str(tmp_path / "c"))
    assert isinstance(found, datasets.Dataset)
    assert "arrow.json" in str(found.data.schema)
    return found


def pandas_of(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def with_format(name: str) -> Callable[[datasets.Dataset], Any]:
    return lambda ds: ds.with_format(name)[:]


BATCHES: dict[str, Callable[[datasets.Dataset], Any]] = {
    "pyarrow's table": lambda ds: ds.data.table,
    "pyarrow's batch": lambda ds: ds.data.table.to_batches()[0],
    "pyarrow's columns": lambda ds: dict(
        zip(ds.column_names, ds.data.table.combine_chunks().columns, strict=True)
    ),
    "pyarrow's rows": lambda ds: list(ds.data.table.to_struct_array()),
    "polars": lambda ds: pl.from_arrow(ds.data.table),
    "pandas": lambda ds: pandas_of(ds.data.table),
    "pandas' records": lambda ds: ds.with_format("pandas")[:].to_dict("records"),
    "datasets": lambda ds: ds[:],
    "datasets' rows": list,
    **{f"datasets, {name}": with_format(name) for name in ("arrow", "numpy", "pandas")},
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=list(BATCHES))
def test_batches(
    batch: Callable[[datasets.Dataset], Any],
    ds: datasets.Dataset,
    rows: list[dict[str, Any]],
    scorer: Gpt2HarmlessScorer,
) -> None:
    expected = scorer.score_batch(rows, on_error="nan")
    assert np.isnan(expected).tolist() == [False, True]
    assert np.array_equal(scorer.score_batch(batch(ds), on_error="nan"), expected, equal_nan=True)


def test_columns_and_maps(
    ds: datasets.Dataset, rows: list[dict[str, Any]], scorer: Gpt2HarmlessScorer
) -> None:
    expected = scorer.score_batch(rows, on_error="nan")
    if "output" in rows[0]:
        table = ds.data.table
        scores = scorer.score(table["instruction"], table["output"], on_error="nan")
        assert np.allclose(scores, expected, atol=1e-5, equal_nan=True)
    mapped = ds.map(
        lambda batch: {"score": scorer.score_batch(batch, on_error="nan")},
        batched=True, load_from_cache_file=False,
    )  # fmt: skip
    assert np.array_equal(np.array(mapped["score"][:], float), expected, equal_nan=True)


def test_batches_of_ray(ds: datasets.Dataset, rows: list[dict[str, Any]]) -> None:
    reward = RewardScorer("demo", provider="cpu")
    table = ds.data.table
    for batch in (table, pandas_of(table)):
        scored = np.asarray(reward(batch)["harmless_score"], np.float32)
        expected = reward({name: [row[name] for row in rows] for name in rows[0]})["harmless_score"]
        assert np.array_equal(scored, expected, equal_nan=True)


def test_bytes_and_other_forms_of_turns(scorer: Gpt2HarmlessScorer) -> None:
    texts = {"instruction": ["Hi", "日本"], "output": ["Yes.", "No."]}
    expected = scorer.score_batch(texts)
    raw = {name: [value.encode() for value in values] for name, values in texts.items()}
    arrays = {name: np.array(values) for name, values in raw.items()}
    columns: Any
    for columns in (raw, arrays, pl.DataFrame(raw), pd.DataFrame(raw), pa.table(raw)):
        assert scorer.score_batch(columns) == expected
    raw["output"][1] = b"\xff"
    for columns in (raw, pl.DataFrame(raw), pd.DataFrame(raw), pa.table(raw)):
        assert np.isnan(scorer.score_batch(columns, on_error="nan")).tolist() == [False, True]
    turns = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}]
             for a, b in zip(*texts.values(), strict=True)]  # fmt: skip
    lists = [{name: [turn[name] for turn in chat] for name in chat[0]} for chat in turns]
    maps = pa.array(
        [[list(turn.items()) for turn in chat] for chat in turns],
        pa.list_(pa.map_(pa.string(), pa.string())),
    )
    for messages in (lists, pl.Series(lists), maps, pa.table({"m": maps}).to_pandas()["m"],
                     list(map(json.dumps, turns))):  # fmt: skip
        assert scorer.score_batch({"messages": messages}) == expected


def test_a_text_that_a_policy_may_have_written_is_no_conversation(tmp_path: Path) -> None:
    text = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    row = {"prompt": "Hi", "response": text}
    for rows in ([row], pl.DataFrame([row]), pa.table({name: [row[name]] for name in row})):
        (pair,) = Items(rows, Reading()).pairs()
        assert isinstance(pair, Pair)
        assert pair.answer.strip() == text
    # In a file it is a cell of messages, as eval has always read them.
    pl.DataFrame([row]).write_csv(tmp_path / "rows.csv")
    (pair,) = read(tmp_path / "rows.csv")
    assert isinstance(pair, Pair)
    assert pair.answer.strip() == "b"
