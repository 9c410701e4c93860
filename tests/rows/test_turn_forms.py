"""Turns and texts in other physical forms are read as the same values in JSON lines."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from forms import jsonl, read
from harmless_runtime.errors import ShapeError
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes [1] 日本"}]
OTHER = [{"from": "human", "value": "Go\non"}, {"from": "gpt", "value": '"No"'}]
ROWS: list[dict[str, Any]] = [{"id": "a", "messages": TURNS}, {"id": "b", "messages": OTHER}]
AsText = Callable[[Any], str]


def texts(items: list[Pair | Reject]) -> list[tuple[str, str]]:
    assert [item for item in items if isinstance(item, Reject)] == []
    return [(i.question, i.answer) for i in items if isinstance(i, Pair)]


@pytest.fixture
def expected(tmp_path: Path) -> list[tuple[str, str]]:
    (tmp_path / "expected.jsonl").write_bytes(jsonl(ROWS))
    return texts(read(tmp_path / "expected.jsonl"))


def write_cells(rows: list[dict[str, str]], folder: Path) -> list[Path]:
    """Write rows of texts in every form that holds texts."""
    frame = pd.DataFrame(rows)
    frame.to_parquet(folder / "cells.parquet")
    frame.to_csv(folder / "cells.csv", index=False)
    frame.to_json(folder / "cells.jsonl", orient="records", lines=True)
    frame.to_json(folder / "cells.json", orient="records")
    pl.DataFrame(rows).write_ipc(folder / "cells.arrow")
    names = ("cells.parquet", "cells.csv", "cells.jsonl", "cells.json", "cells.arrow")
    return [folder / name for name in names]


@pytest.mark.parametrize("as_text", [json.dumps, lambda turns: json.dumps(turns, indent=1)])
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_conversations_as_the_text_of_their_json(
    as_text: AsText, name: str, expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows = [{"id": row["id"], name: as_text(row["messages"])} for row in ROWS]
    for path in write_cells(rows, tmp_path):
        assert texts(read(path)) == expected, path
        named = read(path, columns={"messages": name})
        assert [item.id for item in named if isinstance(item, Pair)] == [b'"a"', b'"b"']


def test_prompts_and_responses_as_the_text_of_their_json(tmp_path: Path) -> None:
    row = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": OTHER}
    (tmp_path / "lists.jsonl").write_bytes(jsonl([row]))
    cells = [{name: json.dumps(turns) for name, turns in row.items()}]
    columns = {"instruction": "prompt", "output": "chosen"}
    for path in write_cells(cells, tmp_path):
        for reading in ({"pairs": True}, {"columns": columns}):
            lists = texts(read(tmp_path / "lists.jsonl", **reading))
            assert texts(read(path, **reading)) == lists, path
        # A path leads into the turns.
        inside = {"instruction": "prompt.0.content", "output": "chosen.0.content"}
        assert texts(read(path, columns=inside)) == [question_and_answer("Hi", "", "Yes [1] 日本")]


def test_texts_that_are_no_turns_stay_texts(tmp_path: Path) -> None:
    answers = ["[1, 2]", "[]", '[{"a": 1}]', '[{"role": "user"}, 4]', '[{"role": "user"', "['a']"]
    rows = [{"prompt": answer, "response": answer} for answer in answers]
    for path in write_cells(rows, tmp_path):
        assert texts(read(path)) == [question_and_answer(a, "", a) for a in answers]
    # In rows of instructions every text is one, as the texts of tasks about JSON are.
    rows = [{"instruction": json.dumps(TURNS), "output": json.dumps(OTHER)}]
    for path in write_cells(rows, tmp_path):
        assert texts(read(path)) == [
            question_and_answer(*[rows[0]["instruction"], "", rows[0]["output"]])
        ]


@pytest.mark.parametrize("are_arrays", [False, True])
def test_the_repr_of_python_is_named(are_arrays: bool, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS)
    if are_arrays:  # as pandas reads lists
        frame.to_parquet(tmp_path / "rows.parquet")
        frame = pd.read_parquet(tmp_path / "rows.parquet")
    frame.to_csv(tmp_path / "repr.csv", index=False)
    with pytest.raises(ShapeError, match=r"Python's repr of turns is not read: json\.dumps"):
        read(tmp_path / "repr.csv")
    asked = pd.DataFrame({"prompt": ["Hi", TURNS[:1]], "completion": [OTHER[1:], "Yes"]})
    asked.to_csv(tmp_path / "asked.csv", index=False)
    for item in read(tmp_path / "asked.csv", format="prompt-completion"):
        assert isinstance(item, Reject)
        assert "Python's repr of turns is not read" in item.reason


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ('[{"role": "user"', "the turns are a text that is not JSON"),
        ("Hi", "Expected `array`, got `str` - at `$.messages`"),
        ('{"role": "user"}', "a turn has no text"),
        ('{"a": 1}', "Expected `array`, got `object` - at `$.messages`"),
        ('[{"role": "user", "content": 5}]', "at `$.messages[0].content`"),
        ("[" * 100_000, "nested too deeply"),
        ('{"role": ["user", "assistant"], "content": ["Hi"]}', "different lengths: role 2, cont"),
    ],
)
def test_what_is_wrong_with_a_cell_is_told(cell: str, told: str, tmp_path: Path) -> None:
    rows = [{"messages": json.dumps(TURNS)}, {"messages": cell}]
    for path in write_cells(rows, tmp_path):
        good, bad = read(path, format="messages")
        assert isinstance(good, Pair)
        assert isinstance(bad, Reject)
        assert told in bad.reason


def test_objects_of_lists(expected: list[tuple[str, str]], tmp_path: Path) -> None:
    # The Sequence of older versions of datasets gives such objects.
    columns = [
        {"id": row["id"], "messages": pd.DataFrame(row["messages"]).to_dict("list")} for row in ROWS
    ]
    parts = {"type": ["text"], "text": ["Hi"], "image": [None]}
    columns.append({"id": "c", "messages": {"role": ["user", "assistant"], "content": [parts] * 2}})
    expected = [*expected, question_and_answer("Hi", "", "Hi")]
    (tmp_path / "rows.jsonl").write_bytes(jsonl(columns))
    cells = [{**row, "messages": json.dumps(row["messages"])} for row in columns]
    for path in (tmp_path / "rows.jsonl", *write_cells(cells, tmp_path)):
        assert texts(read(path)) == expected, path
    one = pa.table({"messages": [row["messages"] for row in columns[:1]]})
    parquet.write_table(one, tmp_path / "struct.parquet")
    assert texts(read(tmp_path / "struct.parquet")) == expected[:1]


def test_the_sequences_of_datasets(expected: list[tuple[str, str]], tmp_path: Path) -> None:
    turn = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = datasets.Features({"messages": datasets.Sequence(turn)})
    lists = {"role": ["user", "assistant"], "content": ["Hi", "Yes [1] 日本"]}
    ds = datasets.Dataset.from_dict({"messages": [lists]}, features)
    assert ds[0]["messages"] == lists
    ds.to_json(tmp_path / "rows.jsonl")
    ds.to_parquet(tmp_path / "rows.parquet")
    ds.save_to_disk(tmp_path / "saved")
    for name in ("rows.jsonl", "rows.parquet", "saved"):
        assert texts(read(tmp_path / name)) == expected[:1]


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_maps(text: Any, expected: list[tuple[str, str]], tmp_path: Path) -> None:
    turns = pa.list_(pa.map_(text, text))
    maps = [[list(turn.items()) for turn in row["messages"]] for row in ROWS]
    whole = [
        [(name, [turn[name] for turn in row["messages"]]) for name in row["messages"][0]]
        for row in ROWS
    ]
    tables = {
        "maps": pa.table({"messages": pa.array(maps, turns)}),
        "whole": pa.table({"messages": pa.array(whole, pa.map_(text, pa.list_(text)))}),
    }
    for name, table in tables.items():
        parquet.write_table(table, tmp_path / f"{name}.parquet")
        with ipc.new_stream(tmp_path / f"{name}.arrow", table.schema) as writer:
            writer.write_table(table)
        for path in (tmp_path / f"{name}.parquet", tmp_path / f"{name}.arrow"):
            assert texts(read(path)) == expected


TEXTS = {
    "id": ["a", "b"],
    "instruction": ["Go on.", "日本"],
    "input": ["", "x"],
    "output": ["Yes.", '{"a": 1}'],
}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_texts_of_bytes(kind: Any, tmp_path: Path) -> None:
    columns = {name: [value.encode() for value in values] for name, values in TEXTS.items()}
    columns["output"].append(b"not \xff")
    table = pa.table(
        {name: pa.array([*values, values[0]][:3], kind) for name, values in columns.items()}
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    with ipc.new_file(tmp_path / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("rows.parquet", "rows.arrow"):
        *good, bad = read(tmp_path / name)
        rows = list(zip(*[TEXTS[n] for n in ("instruction", "input", "output")], strict=True))
        assert texts(good) == [question_and_answer(*row) for row in rows]
        assert [item.id for item in good if isinstance(item, Pair)] == [b'"a"', b'"b"']
        assert isinstance(bad, Reject)
        assert bad.reason == "a text is not valid UTF-8"
        assert rb'"output": "not \xff"' in bad.raw


def test_turns_of_bytes(expected: list[tuple[str, str]], tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.binary()), ("content", pa.binary())])
    turns = pa.array([[{n: v.encode() for n, v in turn.items()} for turn in TURNS]], pa.list_(turn))
    parquet.write_table(pa.table({"messages": turns}), tmp_path / "rows.parquet")
    assert texts(read(tmp_path / "rows.parquet")) == expected[:1]
    cell = pa.array([json.dumps(TURNS).encode()], pa.binary())
    parquet.write_table(pa.table({"messages": cell}), tmp_path / "rows.parquet")
    assert texts(read(tmp_path / "rows.parquet")) == expected[:1]


@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")
def test_frames_that_fastparquet_writes(expected: list[tuple[str, str]], tmp_path: Path) -> None:
    pytest.importorskip("fastparquet")
    frame = pd.DataFrame({**TEXTS, "output": [value.encode() for value in TEXTS["output"]]})
    frame.to_parquet(tmp_path / "bytes.parquet", engine="fastparquet")
    rows = zip(*[TEXTS[name] for name in ("instruction", "input", "output")], strict=True)
    assert texts(read(tmp_path / "bytes.parquet")) == [question_and_answer(*row) for row in rows]
    pd.DataFrame(ROWS).to_parquet(tmp_path / "turns.parquet", engine="fastparquet")
    assert texts(read(tmp_path / "turns.parquet")) == expected


def test_maps_that_duckdb_writes(expected: list[tuple[str, str]], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "rows.parquet"
    turns = [f"map {json.dumps(turn, ensure_ascii=False)}".replace('"', "'") for turn in TURNS]
    duckdb.sql(f"select [{', '.join(turns)}] as messages").write_parquet(str(path))
    assert "map<" in str(parquet.read_schema(path))
    assert texts(read(path)) == expected[:1]


def test_an_id_of_bytes_that_are_no_text_stays_base64(tmp_path: Path) -> None:
    table = pa.table({"id": [b"\xff\xfe"], "instruction": ["a"], "output": ["b"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert [item.id for item in read(tmp_path / "rows.parquet") if isinstance(item, Pair)] == [
        b'"//4="'
    ]


def test_the_csv_of_a_spreadsheet_with_turns(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["messages"], [json.dumps(TURNS)], ["[]"]])
    good, bad = read(tmp_path / "rows.csv", format="messages")
    assert isinstance(good, Pair)
    assert isinstance(bad, Reject)
    assert bad.reason == "the conversation does not end with an assistant turn"
