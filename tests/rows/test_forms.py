"""Every form of input gives the same rows, and what is wrong with one is told."""

import json
import subprocess
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from forms import FORMS, jsonl, make_rows, read
from harmless_runtime.errors import InputError
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject
from processes import COMMAND
from runs import cpu_engine, make_run

ROWS = make_rows(250)
EXPECTED = [
    (f'"{r["id"]}"'.encode(), *question_and_answer(r["instruction"], r["input"], r["output"]))
    for r in ROWS
]


def contents(items: list[Pair | Reject]) -> list[tuple[bytes, str, str]]:
    rejects = [item for item in items if isinstance(item, Reject)]
    assert rejects == []
    return [(i.id, i.question, i.answer) for i in items if isinstance(i, Pair)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, tmp_path: Path) -> None:
    inputs = open_inputs([str(FORMS[form](ROWS, tmp_path))])
    assert contents(list(inputs.rows())) == EXPECTED
    sizes = [source.size for source in inputs.sources]
    assert inputs.position == sum(size or 0 for size in sizes), "all bytes were read"


def test_every_form_gives_the_same_bytes_of_scores(tmp_path: Path) -> None:
    engine = cpu_engine()
    outputs = set()
    for form, write in FORMS.items():
        out = tmp_path / f"{form}.scores"
        score_files(make_run(write(ROWS, tmp_path), out), engine)
        outputs.add(out.read_bytes())
    assert len(outputs) == 1


@pytest.mark.parametrize("form", ["rows.jsonl.zst", "rows.json.gz", "table", "rows.arrow"])
def test_forms_on_standard_input(form: str, tmp_path: Path) -> None:
    content = FORMS[form](ROWS, tmp_path).read_bytes()
    expected = tmp_path / "expected.jsonl"
    score_files(make_run(FORMS["rows.jsonl"](ROWS, tmp_path), expected), cpu_engine())
    arguments = [str(COMMAND), "score", "-", "-o", f"{tmp_path}/o.jsonl", "--model", "demo"]
    done = subprocess.run(arguments, input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.jsonl").read_bytes() == expected.read_bytes()


def test_several_inputs_and_their_order(tmp_path: Path) -> None:
    folder = FORMS["folder"](ROWS, tmp_path)
    items = read(folder / "deep" / "c.parquet", folder, folder / "a.jsonl")
    assert [item.number for item in items[:2]] == [1, 2]
    assert Path(items[0].source).name == "c.parquet"
    names = list(dict.fromkeys(Path(item.source).name for item in items[100:]))
    assert names == ["a.jsonl", "b.json.gz", "c.parquet"]
    assert len(items) == 84 + 250 + 83


def test_only_the_columns_that_are_needed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = parquet.ParquetFile.iter_batches

    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs["columns"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", noting)
    inputs = open_inputs([str(FORMS["rows.parquet"](ROWS, tmp_path))])
    inputs.shape()
    list(inputs.rows())
    assert asked[-1] == ["id", "instruction", "input", "output"]


def test_a_cell_of_parquet_that_is_not_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    outputs = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    table = pa.table({"instruction": ["x", "y", "z"], "output": outputs})
    parquet.write_table(table, tmp_path / "rows.parquet")
    items = read(tmp_path / "rows.parquet")
    assert [type(item) for item in items] == [Pair, Reject, Pair]


def test_what_python_cannot_read_in_other_columns_does_not_matter(tmp_path: Path) -> None:
    table = pa.table(
        {
            "instruction": ["x", "y"],
            "output": ["a", "b"],
            "id": pa.array([10**15, 1], pa.timestamp("s")),
            "text": pa.array([b"\xff", b"\xff"], pa.binary()).view(pa.string()),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    first, second = read(tmp_path / "rows.parquet")
    assert isinstance(first, Pair)
    assert isinstance(second, Pair)
    assert first.id == b"1000000000000000000"  # milliseconds, as Parquet has them
    assert second.id == b'"1970-01-01T00:00:01"'


def test_kinds_of_columns(tmp_path: Path) -> None:
    texts = ["a", "b", "a"]
    table = pa.table(
        {
            "instruction": pa.array(texts, pa.large_string()),
            "output": pa.array(texts).dictionary_encode(),
            "input": pa.array([None, "", "i"]),
            "id": pa.array([2**40, None, 3], pa.int64()),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    with ipc.new_stream(tmp_path / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("rows.parquet", "rows.arrow"):
        assert contents(read(tmp_path / name)) == [
            (b"1099511627776", *question_and_answer("a", "", "a")),
            (b"null", *question_and_answer("b", "", "b")),
            (b"3", *question_and_answer("a", "i", "a")),
        ]


def test_ids_that_json_does_not_have_become_texts(tmp_path: Path) -> None:
    times = pa.array([2**60 + 1], pa.timestamp("ns"))
    table = pa.table({"instruction": ["a"], "output": ["b"], "id": times})
    parquet.write_table(table, tmp_path / "rows.parquet")
    (pair,) = read(tmp_path / "rows.parquet")
    assert isinstance(pair, Pair)
    assert json.loads(pair.id) == pd.Timestamp(2**60 + 1).isoformat()


def test_a_column_may_have_dots_in_its_name(tmp_path: Path) -> None:
    table = pa.table({"a.q": ["a"], "a.r": ["b"], "other": [1]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("a.q,a.r,other\na,b,1\n")
    for name in ("rows.parquet", "rows.csv"):
        (pair,) = read(tmp_path / name, columns={"instruction": "a.q", "output": "a.r"})
        assert isinstance(pair, Pair)
        assert (pair.question, pair.answer) == question_and_answer("a", "", "b")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], ["c"]], names=["instruction", "output", "output"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    with ipc.new_stream(tmp_path / "rows.arrow", table.schema) as writer:
        writer.write_table(table)
    for name in ("rows.parquet", "rows.arrow"):
        with pytest.raises(InputError, match="has two columns named output"):
            read(tmp_path / name)


def test_links_in_a_folder(tmp_path: Path) -> None:
    FORMS["rows.jsonl"](ROWS, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path)
    assert contents(read(tmp_path / "data")) == EXPECTED
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cannot read .*b\.jsonl: No such file"):
        read(tmp_path / "data")


def test_names_that_stand_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in (("*.jsonl", "no file matches"), ("empty", "holds no file whose name")):
        with pytest.raises(InputError, match=message):
            open_inputs([str(tmp_path / name)])
    (tmp_path / "[1].jsonl").write_bytes(jsonl(ROWS[:1]))
    assert len(read(tmp_path / "[1].jsonl")) == 1, "a file that exists is no pattern"


def test_a_saved_dataset_of_several_splits(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match="holds the splits train, test") as caught:
        open_inputs([str(tmp_path / "both")])
    assert caught.value.hint is not None
    assert contents(read(tmp_path / "both" / "test")) == EXPECTED
    datasets.DatasetDict({"train": dataset}).save_to_disk(tmp_path / "one")
    assert contents(read(tmp_path / "one")) == EXPECTED


def save(folder: Path, ids: range, *, shards: int = 1) -> None:
    datasets.Dataset.from_list([ROWS[i] for i in ids]).save_to_disk(folder, num_shards=shards)


def test_saved_datasets_at_any_depth_below_a_folder(tmp_path: Path) -> None:
    FORMS["rows.jsonl"](ROWS[:50], tmp_path)
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "README.md").write_text("rows")
    save(tmp_path / "saved-more" / "deep", range(50, 100))  # as names are sorted
    save(tmp_path / "saved", range(100, 150), shards=3)
    (tmp_path / "saved" / "cache-0123456789abcdef.arrow").write_bytes(b"left by a map")
    split = datasets.Dataset.from_list(ROWS[150:])
    datasets.DatasetDict({"train": split}).save_to_disk(tmp_path / "splits" / "one")
    assert contents(read(tmp_path)) == EXPECTED
    done = subprocess.run(
        [COMMAND, "score", ".", "-o", "../o.jsonl", "--model", "demo"],
        cwd=tmp_path / "saved",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o.jsonl").read_bytes().splitlines()) == 50
    datasets.DatasetDict({"a": split, "b": split}).save_to_disk(tmp_path / "splits" / "two")
    with pytest.raises(InputError, match="two holds the splits a, b"):
        open_inputs([str(tmp_path)])


def test_a_file_of_states_is_no_saved_dataset(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(json.dumps(ROWS).encode())
    assert contents(read(tmp_path)) == EXPECTED


def test_saved_datasets_in_a_store(store: Any, tmp_path: Path) -> None:
    save(tmp_path / "saved", range(250), shards=2)
    store.put(str(tmp_path / "saved"), "/sets/saved", recursive=True)
    assert contents(read("memory://sets")) == EXPECTED


def test_the_cache_of_the_hub(tmp_path: Path) -> None:
    """As huggingface_hub lays it out: links from each revision to contents."""
    repository = tmp_path / "hub" / "datasets--team--rows"
    FORMS["rows.parquet"](ROWS, tmp_path)
    (repository / "blobs").mkdir(parents=True)
    (tmp_path / "rows.parquet").rename(repository / "blobs" / ("ab" * 32))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    revisions = [repository / "snapshots" / (digit * 40) / "data" for digit in "12"]
    revisions[0].mkdir(parents=True)
    (revisions[0] / "rows.parquet").symlink_to(Path("../../../blobs", "ab" * 32))
    for name in (tmp_path / "hub", repository, revisions[0], revisions[0] / "*.parquet"):
        assert contents(read(name)) == EXPECTED
    revisions[1].mkdir(parents=True)
    (revisions[1] / "rows.parquet").symlink_to(Path("../../../blobs", "ab" * 32))
    with pytest.raises(InputError, match="holds 2 revisions of the same rows") as caught:
        open_inputs([str(tmp_path / "hub")])
    named = str(caught.value.hint).removeprefix("name one of them: ")
    assert contents(read(named)) == EXPECTED


def test_files_that_were_joined_with_their_byte_order_marks(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    rows = [{**row, "output": f"{row['output']}\ufeff"} for row in ROWS[:90]]
    expected = [
        (f'"{r["id"]}"'.encode(), *question_and_answer(r["instruction"], r["input"], r["output"]))
        for r in rows
    ]
    (tmp_path / "joined.jsonl").write_bytes(
        mark + jsonl(rows[:30]) + mark + jsonl(rows[30:60]) + mark + b"\n" + jsonl(rows[60:])
    )
    parts = [
        FORMS["rows.csv"](part, tmp_path).read_bytes()
        for part in (rows[:30], rows[30:60], rows[60:])
    ]
    (tmp_path / "joined.csv").write_bytes(b"".join(mark + part for part in parts))
    for name in ("joined.jsonl", "joined.csv"):
        assert contents(read(tmp_path / name)) == expected
    (tmp_path / "inside.csv").write_bytes(b'instruction,output\n"a\n' + mark + b'b",c\n')
    (pair,) = read(tmp_path / "inside.csv")
    assert isinstance(pair, Pair)
    assert "a\n\ufeffb" in pair.question


def test_blanks_around_the_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id, instruction , output\n1, a,b \n")
    (pair,) = read(path)
    assert contents([pair]) == [(b'"1"', *question_and_answer(" a", "", "b "))]
    path.write_text("output, output,instruction\na,b,c\n")
    assert contents(read(path)) == [(b'""', *question_and_answer("c", "", "a"))]
