"""Selected rows are those that sorting all of them gives, in their order, and as they were."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from forms import FORMS, jsonl, make_rows
from harmless_runtime.errors import HarmlessError, InputError, OutputError
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.cut import Wanted
from harmless_runtime.scores.select import Selected, Selection, select_rows
from reading import read_rows
from runs import cpu_engine, make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in several forms, their scores alone, and joined. One row has none."""
    folder = tmp_path_factory.mktemp("scored")
    engine = cpu_engine()
    rows = make_rows(100)
    rows[5]["output"] = None
    for form in ("rows.jsonl", "rows.parquet", "rows.json", "saved"):
        source = FORMS[form](rows, folder)
        for name in ("scores.jsonl.gz", "scores.parquet", "scores.csv"):
            score_files(make_run(source, folder / f"{form}.{name}"), engine)
        for name in ("joined.jsonl", "joined.parquet", "joined.csv"):
            score_files(make_run(source, folder / f"{form}.{name}", join="harmless_score"), engine)
    return folder


def ids_of(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return [row["id"] for row in parquet.read_table(path).to_pylist()]
    if path.suffix == ".csv":
        return [line.split(",")[0] for line in path.read_text().splitlines() if "row-" in line[:5]]
    return [row["id"] for row in read_rows(path)]


def wanted_ids(folder: Path, count: int) -> list[str]:
    rows = [r for r in read_rows(folder / "rows.jsonl.joined.jsonl") if r["harmless_score"]]
    best = sorted(rows, key=lambda r: -r["harmless_score"])[:count]
    return [row["id"] for row in rows if row in best]


TOP = Wanted(end="top", share=0.5)


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.parquet", "rows.json", "saved"])
@pytest.mark.parametrize("name", ["scores.jsonl.gz", "scores.parquet", "scores.csv"])
def test_rows_by_scores_beside_them(form: str, name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / ("kept.parquet" if "parquet" in form else "kept.jsonl")
    scores = folder / f"{form}.{name}"
    selected = select_rows(Selection((str(folder / form),), out, TOP, scores))
    assert (selected.rows, selected.scored, selected.kept) == (100, 99, 50)
    assert ids_of(out) == wanted_ids(folder, 50)
    if form == "rows.jsonl":
        lines = (folder / form).read_bytes().splitlines()
        assert set(out.read_bytes().splitlines()) <= set(lines)


@pytest.mark.parametrize("name", ["joined.jsonl", "joined.parquet", "joined.csv"])
@pytest.mark.parametrize("kept", ["kept.jsonl", "kept.parquet", "kept.csv"])
def test_rows_that_hold_their_scores(name: str, kept: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / kept
    selected = select_rows(Selection((str(folder / f"rows.parquet.{name}"),), out, TOP))
    assert selected.kept == 50
    assert ids_of(out) == wanted_ids(folder, 50)
    if kept == "kept.parquet":
        schema = parquet.read_schema(out)
        if name == "joined.parquet":
            assert schema == parquet.read_schema(folder / f"rows.parquet.{name}")
        assert str(schema.field("harmless_score").type) in ("float", "double")


def test_scores_of_other_rows_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    scores = folder / "rows.jsonl.scores.parquet"
    rows = make_rows(100)

    def refused(rows: list[dict[str, Any]], kind: type[HarmlessError], message: str) -> None:
        (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
        with pytest.raises(kind, match=message):
            select_rows(Selection((str(tmp_path / "r.jsonl"),), out, TOP, scores))
        assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]

    refused(rows, OutputError, "holds the scores of other rows|are not those that were scored")
    rows[5]["output"] = None
    refused(rows[:-1], OutputError, "are not those that were scored")
    refused([*rows, rows[0]], OutputError, "line 101, has neither a score nor a reject")
    refused([rows[1], rows[0], *rows[2:]], OutputError, "holds the scores of other rows")
    rows[9]["instruction"] = "changed"
    refused(rows, OutputError, "an id or a text differs")


def test_scores_without_their_record(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("rows.jsonl.scores.jsonl.gz", "rows.jsonl.scores.jsonl.gz.rejects.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "rows.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    scores = tmp_path / "rows.jsonl.scores.jsonl.gz"
    with pytest.raises(OutputError, match="has neither a score nor a reject"):
        # The rejects name the input by another path.
        select_rows(Selection((str(tmp_path / "rows.jsonl"),), tmp_path / "o.jsonl", TOP, scores))
    out = tmp_path / "o.jsonl"
    selected = select_rows(Selection((str(folder / "rows.jsonl"),), out, TOP, scores))
    assert selected.kept == 50

    assert "only the ids tell" in caplog.text


def test_changed_scores_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("rows.jsonl.scores.jsonl.gz*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scores = tmp_path / "rows.jsonl.scores.jsonl.gz"
    selection = Selection((str(folder / "rows.jsonl"),), tmp_path / "o.jsonl", TOP, scores)
    assert select_rows(selection).kept == 50
    content = gzip.decompress(scores.read_bytes())
    scores.write_bytes(gzip.compress(content.replace(b'"score": ', b'"score": 1', 1)))
    with pytest.raises(OutputError, match=r"scores\.jsonl\.gz was changed since it was written"):
        select_rows(replace(selection, overwrite=True))
    scores.unlink()
    with pytest.raises(OutputError, match=r"scores\.jsonl\.gz is missing"):
        select_rows(replace(selection, overwrite=True))


def test_joined_rows_as_scores(folder: Path, tmp_path: Path) -> None:
    for with_record in (True, False):
        for name in ("joined.jsonl", "joined.parquet"):
            scores = folder / f"rows.jsonl.{name}"
            if not with_record:
                scores = tmp_path / name
                scores.write_bytes((folder / f"rows.jsonl.{name}").read_bytes())
            with pytest.raises(InputError, match="holds rows joined with their scores"):
                select_rows(
                    Selection((str(folder / "rows.jsonl"),), tmp_path / "o.jsonl", TOP, scores)
                )


@pytest.mark.parametrize("with_record", [True, False])
def test_rows_by_a_folder_of_scores(with_record: bool, folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (rows / "a.jsonl").write_bytes(b"".join(lines[:40]))
    (rows / "b.jsonl").write_bytes(b"".join(lines[40:]))
    score_files(make_run(rows, tmp_path / "scores", is_folder=True), cpu_engine())
    if not with_record:
        (tmp_path / "scores" / "_run.json").unlink()
    out = tmp_path / "o.jsonl"
    selected = select_rows(Selection((str(rows),), out, TOP, tmp_path / "scores"))
    assert (selected.rows, selected.scored, selected.kept) == (100, 99, 50)
    assert ids_of(out) == wanted_ids(folder, 50)


def test_scores_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("rows.jsonl.scores.jsonl.gz*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scores = tmp_path / "rows.jsonl.scores.jsonl.gz"
    for output in (scores, tmp_path / f"{scores.name}.rejects.jsonl"):
        selection = Selection((str(folder / "rows.jsonl"),), output, TOP, scores, overwrite=True)
        with pytest.raises(OutputError, match="belongs to the scores"):
            select_rows(selection)


def test_replacing_the_output_of_a_run_removes_its_record(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("rows.jsonl.joined.jsonl*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    joined, out = folder / "rows.jsonl.joined.jsonl", tmp_path / "rows.jsonl.joined.jsonl"
    select_rows(Selection((str(joined),), out, TOP, overwrite=True))
    assert not (tmp_path / "rows.jsonl.joined.jsonl.run.json").exists()
    assert len(read_rows(out)) == 50


@pytest.mark.parametrize("beside", [False, True])
def test_a_folder_of_outputs_of_several_runs(beside: bool, tmp_path: Path) -> None:
    engine = cpu_engine()
    rows = make_rows(40)
    names = []
    for place in (0, 1):
        source = tmp_path / f"in/{place}.jsonl"
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(jsonl(rows[20 * place :][:20]))
        out = tmp_path / f"parts/{place}.jsonl"
        score_files(make_run(source, out, join=None if beside else "harmless_score"), engine)
        names.append(str(source))
    parts = tmp_path / "parts"
    selection = Selection((str(parts),), tmp_path / "o.jsonl", TOP)
    if beside:
        selection = Selection(tuple(names), tmp_path / "o.jsonl", TOP, parts)
    assert select_rows(selection).kept == 20
    with pytest.raises(InputError, match="parts holds only what finished runs have written"):
        make_run(parts, tmp_path / "again.jsonl")


def test_scores_from_csv_are_numbers_in_json(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    select_rows(Selection((str(folder / "rows.parquet.joined.csv"),), out, TOP))
    assert {type(row["harmless_score"]) for row in read_rows(out)} == {float}


def test_no_row_is_kept(folder: Path, tmp_path: Path) -> None:
    joined = str(folder / "rows.jsonl.joined.jsonl")
    selected = select_rows(Selection((joined,), tmp_path / "o.jsonl", Wanted(above=1e9)))
    assert (selected.kept, selected.lowest) == (0, None)
    assert selected.span == pytest.approx(_ends(Path(joined)))


def test_what_cannot_be_selected(folder: Path, tmp_path: Path) -> None:
    joined = folder / "rows.jsonl.joined.jsonl"

    def refused(message: str, **options: Any) -> None:
        given: dict[str, Any] = {
            "rows": (str(joined),),
            "output": tmp_path / "o.jsonl",
            "wanted": TOP,
        }
        with pytest.raises(HarmlessError, match=message):
            select_rows(Selection(**(given | options)))

    refused("have no field harmless_score or score", rows=(str(folder / "rows.jsonl"),))
    refused("have no field x", score_column="x")
    refused("instruction is .* and not a score", score_column="instruction")
    refused("is an input", output=joined, overwrite=True)
    refused("- can be read only once", rows=("-",))
    refused("is a folder", output=tmp_path)
    (tmp_path / "o.jsonl").write_text("mine")
    refused("already exists")
    with pytest.raises(InputError, match="is not a file of ids and scores"):
        select_rows(Selection((str(joined),), tmp_path / "p.jsonl", TOP, folder / "rows.parquet"))
    assert select_rows(
        Selection((str(joined),), tmp_path / "o.jsonl", TOP, overwrite=True)
    ) == Selected(100, 99, 50, *_ends(tmp_path / "o.jsonl"), _ends(joined))


def _ends(path: Path) -> tuple[float, float]:
    scores = [row["harmless_score"] for row in read_rows(path) if row["harmless_score"] is not None]
    return min(scores), max(scores)
