"""`select` replaces nothing that it reads, and refuses what holds no scores."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from forms import jsonl, make_rows
from harmless_runtime.cli.select import Arguments, run
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.object_store import staging_path
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.cut import Wanted
from harmless_runtime.scores.select import Selection, select_rows
from processes import Harmless
from reading import names_in, read_rows
from runs import cpu_engine, make_run

ALL = Wanted(end="top", share=1.0)
ONE = Wanted(end="top", count=1)
SCORED = b'{"id": 1, "score": 1}\n{"id": 2, "score": 2}\n'


def test_files_with_the_names_of_temporary_ones_are_left_alone(tmp_path: Path) -> None:
    made = tmp_path / "k.jsonl.made"
    made.write_bytes(SCORED)
    select_rows(Selection((str(made),), tmp_path / "k.jsonl", ONE))
    assert made.read_bytes() == SCORED
    assert len(read_rows(tmp_path / "k.jsonl")) == 1
    assert names_in(tmp_path) == ["k.jsonl", "k.jsonl.made"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("dangling", [True, False])
def test_links_are_not_replaced(overwrite: bool, dangling: bool, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(SCORED)
    if not dangling:
        (tmp_path / "target").write_text("mine")
    (tmp_path / "k.jsonl").symlink_to("target")
    with pytest.raises(OutputError, match=r"k\.jsonl is not a regular file"):
        select_rows(
            Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ONE, overwrite=overwrite)
        )
    assert (tmp_path / "k.jsonl").is_symlink()


def test_rows_that_became_longer_than_scoring_allows(tmp_path: Path) -> None:
    row = {"id": 1, "score": 1.5, "text": "x" * 5_000_000}
    (tmp_path / "r.jsonl").write_bytes(jsonl([row, {"id": 2, "score": 1}]))
    selected = select_rows(Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL))
    assert (selected.kept, selected.scored) == (2, 2)


def test_a_first_row_without_the_score(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'{"id": 0}\n' + SCORED)
    selected = select_rows(Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL))
    assert (selected.rows, selected.kept) == (3, 2)


@pytest.mark.parametrize("score", ['"0.5"', "null", "[1]", "1" + "0" * 400, "{}", "true"])
def test_json_without_scores(score: str, tmp_path: Path) -> None:
    rows = make_rows(1)
    (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
    identity = json.dumps(rows[0]["id"])
    (tmp_path / "s.jsonl").write_text(f'{{"id": {identity}, "score": {score}}}\n')
    with pytest.raises(InputError, match="not a file of ids and scores"):
        select_rows(
            Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL, tmp_path / "s.jsonl")
        )


@pytest.mark.parametrize("score", ["", "abc", "\xff"])
def test_csv_without_scores(score: str, tmp_path: Path) -> None:
    rows = make_rows(1)
    (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
    content = f"id,score\n{rows[0]['id']},{score}\n"
    (tmp_path / "s.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="not a file of ids and scores"):
        select_rows(
            Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL, tmp_path / "s.csv")
        )


def test_tables_without_scores(tmp_path: Path) -> None:
    rows = make_rows(1)
    (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
    table = pa.table({"id": [rows[0]["id"]], "score": [b"x"]})
    parquet.write_table(table, tmp_path / "s.parquet")
    with pytest.raises(InputError, match="not a file of ids and scores"):
        select_rows(
            Selection(
                (str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL, tmp_path / "s.parquet"
            )
        )


def test_scores_without_a_record_for_rows_of_an_unknown_shape(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(b'{"q": "a", "a": "b"}\n')
    (tmp_path / "s.jsonl").write_bytes(b'{"id": "", "score": 1}\n')
    with pytest.raises(InputError, match=r"no record beside it[\s\S]*hint: put the record there"):
        select_rows(
            Selection((str(tmp_path / "r.jsonl"),), tmp_path / "k.jsonl", ALL, tmp_path / "s.jsonl")
        )


def test_a_run_into_the_same_object_is_left_alone(tmp_path: Path, cache: Path, store: Any) -> None:
    """`select` into a store has a folder of its own for what it makes."""
    (tmp_path / "r.jsonl").write_bytes(SCORED)
    staged = staging_path("memory://b/y.jsonl").parent / "y.jsonl.state"
    staged.parent.mkdir(parents=True)
    staged.write_text("of a run")
    arguments = Arguments(
        [str(tmp_path / "r.jsonl")], "memory://b/y.jsonl", None, None, None, None, "1", None, False
    )
    run(Console(), arguments)
    assert staged.read_text() == "of a run"
    assert [path.name for path in cache.parent.iterdir()] == ["outputs"]
    assert store.cat_file("/b/y.jsonl") == b'{"id": 2, "score": 2}\n'


@pytest.mark.parametrize("name", ["-", "k.partial", "k.run.json", "k.state"])
def test_names_that_are_no_outputs(name: str, tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "r.jsonl").write_bytes(SCORED)
    done = harmless("select", "r.jsonl", "-o", name, "--top", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert names_in(tmp_path) == ["r.jsonl"]


def test_scores_elsewhere(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "r.jsonl").write_bytes(SCORED)
    done = harmless(
        "select", "r.jsonl", "--scores", "s3://b/x.jsonl", "-o", "k.jsonl", "--top", "1",
        cwd=tmp_path,
    )  # fmt: skip
    assert "error: s3://b/x.jsonl is not on this machine\nhint: copy" in done.stderr


def test_the_rejects_belong_to_the_scores(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_bytes(jsonl(make_rows(5)) + b"oops\n")
    score_files(make_run(tmp_path / "r.jsonl", tmp_path / "s.jsonl"), cpu_engine())
    selection = Selection(
        (str(tmp_path / "r.jsonl"),),
        tmp_path / "s.rejects.jsonl",
        ONE,
        tmp_path / "s.jsonl",
        overwrite=True,
    )
    with pytest.raises(OutputError, match="belongs to the scores"):
        select_rows(selection)


@pytest.mark.usefixtures("cache")
def test_an_object_that_is_an_input_is_not_replaced(store: Any) -> None:
    store.pipe_file("/b/y.jsonl", SCORED)
    arguments = Arguments(
        ["memory:///b/y.jsonl"], "memory://b/y.jsonl", None, None, None, None, "1", None, True
    )
    with pytest.raises(OutputError, match=r"y\.jsonl is an input"):
        run(Console(), arguments)
    assert store.cat_file("/b/y.jsonl") == SCORED
