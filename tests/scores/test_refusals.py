"""What cannot be written is refused before rows are scored, with the name of what is in the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from forms import FORMS, jsonl, make_rows
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.output.checks import check_output
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.make import make_results
from harmless_runtime.scores.targets import form_of
from reading import read_rows
from runs import cpu_engine, make_run

ROWS = make_rows(20)


def refused(message: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(OutputError, match=message):
        check_output(make_run(*arguments, **options))


@pytest.mark.parametrize(
    "name", ["o.jsonl.bz2", "o.xz", "o.parquet.gz", "o.arrow", "o.CSV.XZ", "o.xlsx", "o.orc.gz"]
)
def test_forms_that_cannot_be_written(name: str) -> None:
    with pytest.raises(OutputError, match="has a name for a form that cannot be written"):
        form_of(name)


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_a_field_for_the_score_that_exists(form: str, name: str, tmp_path: Path) -> None:
    source = FORMS[form](ROWS, tmp_path)
    refused("has a field other already", source, tmp_path / name, join="other")


def test_a_field_that_only_a_later_row_has(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[9]["s"] = 1
    (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
    engine = cpu_engine()
    run = make_run(tmp_path / "r.jsonl", tmp_path / "o.jsonl", join="s")
    with pytest.raises(OutputError, match="line 10, has a field s already"):
        score_files(run, engine)
    # The scores are kept, and the command can be given another name for the field.
    again = make_run(tmp_path / "r.jsonl", tmp_path / "o.jsonl", join="t", existing="resume")
    assert score_files(again, engine).resumed.rows == 20
    assert [list(row)[-1] for row in read_rows(tmp_path / "o.jsonl")] == ["t"] * 20


def test_inputs_that_do_not_fit_into_one_table(tmp_path: Path) -> None:
    csv = FORMS["rows.csv"](ROWS, tmp_path)
    lines = FORMS["rows.jsonl"](ROWS, tmp_path)
    tsv = tmp_path / "other.tsv"
    tsv.write_text("instruction\toutput\na\tb\n")
    first = FORMS["rows.parquet"](ROWS, tmp_path)
    other = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"instruction": ["a"], "output": ["b"]}), other)
    for sources, message in (
        ([csv, lines], r"rows\.csv and .*rows\.jsonl are of different forms"),
        ([csv, tsv], r"rows\.csv and .*other\.tsv have different columns"),
        ([first, other], r"rows\.parquet and .*other\.parquet have different columns"),
    ):
        for name in ("o.csv", "o.parquet"):
            refused(message, sources, tmp_path / name, join="s")
        check_output(make_run(sources, tmp_path / "o.jsonl", join="s"))


def test_standard_input_is_not_joined(tmp_path: Path) -> None:
    refused("- can be read only once", ["-"], tmp_path / "o.jsonl", join="s")
    refused("- can be read only once|has no name", ["-"], tmp_path / "o", is_folder=True)


def test_names_in_a_folder_that_clash(tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "r.jsonl").write_bytes(jsonl(ROWS))
    sources = [tmp_path / "a" / "r.jsonl", tmp_path / "b" / "r.jsonl"]
    refused("would both give", sources, tmp_path / "o", is_folder=True)
    refused("is an input", sources[0], tmp_path / "a", is_folder=True, existing="overwrite")


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "of the same size": lambda rows: rows.replace(b"Say\\t7.", b"Say\\t8."),
    "cut": lambda rows: rows[: len(rows) // 2],
    "longer": lambda rows: rows + rows[:100],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_rows_that_changed_since_they_were_scored(
    change: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "r.jsonl"
    source.write_bytes(jsonl(ROWS))
    run = make_run(source, tmp_path / "o.jsonl", join="s")

    def change_first(*arguments: Any) -> None:
        source.write_bytes(change(jsonl(ROWS)))
        make_results(*arguments)

    monkeypatch.setattr("harmless_runtime.output.finish.make_results", change_first)
    with pytest.raises(InputError, match="has changed since the run began"):
        score_files(run, cpu_engine())
    assert not (tmp_path / "o.jsonl").exists()
