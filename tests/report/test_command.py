"""`harmless report`: what it shows of runs, what it refuses, and how `score` ends."""

import html
import json
import shutil
from pathlib import Path

import pytest
from pages import data_of, write_run

from harmless_runtime import bundled
from processes import Harmless


def test_a_run_of_the_command_is_reported_with_its_facts(
    tmp_path: Path, harmless: Harmless
) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"id": i, "instruction": f"ask {i}", "output": "word " * (i % 40 + 1)})
        for i in range(200)
    ]
    rows.write_text("\n".join([*lines, "{broken"]) + "\n")
    out, page = tmp_path / "scores.jsonl", tmp_path / "r.html"
    done = harmless("score", rows, "-o", out, "--model", "demo", "--details")
    assert done.returncode == 3
    assert "quantiles: 1% " in done.stderr
    assert done.stderr.count("█") > 20
    assert f"harmless report {out} -o report.html" in done.stderr
    done = harmless("report", out, "-o", page)
    assert done.returncode == 0, done.stderr
    text = html.unescape(page.read_text())
    record = json.loads((tmp_path / "scores.jsonl.run.json").read_text())
    assert record["about"]["seconds"] > 0
    assert record["about"]["resumed_rows"] == 0
    for fact in (
        record["fingerprint"]["the artifact's SHA-256"],
        "cpu, fp32",
        "rows/s",
        "harmless (cpu)",
        "1 rows have no score",
        "not valid JSON",
        "length in tokens",
        f"harmless select {rows} --scores {out} -o kept.jsonl --above",
    ):
        assert fact in text, fact
    data = data_of(page)
    assert data["cuts"]["total"] == 200
    ids = {row["id"] for row in data["rows"]}
    assert ids == {str(i) for i in range(200)}
    assert any(row["answer"].startswith("word word") for row in data["rows"])
    assert "already exists" in harmless("report", out, "-o", page).stderr


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("Gpt2HarmlessScorer", None, "harmless"),
        ("Gpt2HelpfulScorer", None, "helpful"),
        ("Gpt2HarmlessScorer", "Ray2333/gpt2-large-helpful-reward_model", "helpful"),
    ],
)
def test_what_a_higher_score_means(
    name: str, source: str | None, told: str, tmp_path: Path, harmless: Harmless
) -> None:
    model = "demo"
    if source is not None:  # an export of that checkpoint
        shutil.copytree(bundled.MODEL, tmp_path / "artifact")
        manifest = tmp_path / "artifact/scorer.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"source": source}))
        model = str(manifest.parent)
    (tmp_path / "config.yaml").write_text(json.dumps({"name": name, "model": model}))
    rows, out, page = (tmp_path / name for name in ("rows.jsonl", "scores.jsonl", "r.html"))
    rows.write_text('{"instruction": "Hi", "output": "Hello."}\n' * 3)
    done = harmless("score", rows, "-o", out, "--config", tmp_path / "config.yaml")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "scores.jsonl.run.json").read_text())
    assert record["about"]["scorer"] == f"Gpt2{told.capitalize()}Scorer"
    assert harmless("report", out, "-o", page).returncode == 0
    assert f"Higher is more {told}" in page.read_text()
    assert harmless("report", out, "-o", page, "--overwrite").returncode == 0


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_joined_rows_are_reported(form: str, tmp_path: Path, harmless: Harmless) -> None:
    rows = tmp_path / "rows.jsonl"
    content = [
        {"id": i, "instruction": "Hi", "output": f"o{i}", "kind": f"k{i % 2}"} for i in range(50)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in content))
    out, page = tmp_path / f"joined.{form}", tmp_path / "r.html"
    done = harmless("score", rows, "-o", out, "--model", "demo", "--join")
    assert done.returncode == 0, done.stderr
    if form == "csv":  # without its record, the file alone tells enough
        (tmp_path / "joined.csv.run.json").unlink()
    done = harmless("report", out, "-o", page, "--by", "kind")
    assert done.returncode == 0, done.stderr
    assert {row["answer"] for row in data_of(page)["rows"]} == {f"o{i}" for i in range(50)}
    assert "By kind" in page.read_text()
    assert f"harmless select {out}" in page.read_text()


def test_scores_alone_are_reported_without_texts(tmp_path: Path, harmless: Harmless) -> None:
    out = write_run(tmp_path, [{"id": i} for i in range(40)], [float(i) for i in range(40)])
    (tmp_path / "rows.jsonl").unlink()
    done = harmless("report", out, "-o", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert "The rows are not known" in (tmp_path / "r.html").read_text()
    refused = harmless("report", out, "-o", tmp_path / "s.html", "--by", "kind")
    assert "--rows names them" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.jsonl", "b.jsonl", "c.jsonl"], 2, "at most two can be compared"),
        (["a.jsonl", "b.jsonl", "--by", "kind"], 2, "leave --by out"),
        (["missing.jsonl"], 1, "cannot read missing.jsonl"),
        (["empty.jsonl"], 1, "has no scores"),
        (["rows.jsonl"], 1, "is not a file of ids and scores"),
        (["a.jsonl", "other.jsonl"], 1, "no scored rows in common"),
        (["a.jsonl", "twice.jsonl"], 1, "cannot be told apart by their ids"),
    ],
)
def test_refusals(
    arguments: list[str], code: int, message: str, tmp_path: Path, harmless: Harmless
) -> None:
    write_run(tmp_path, [{"id": i} for i in range(4)], [1.0, 2.0, 3.0, 4.0], "a")
    write_run(tmp_path, [{"id": i} for i in range(4)], [1.0, 2.0, 3.0, 4.0], "b")
    write_run(tmp_path, [{"id": i} for i in range(9, 12)], [1.0, 2.0, 3.0], "other")
    write_run(tmp_path, [{"id": 1}, {"id": 1}], [1.0, 2.0], "twice")
    (tmp_path / "empty.jsonl").touch()
    done = harmless("report", *arguments, "-o", "r.html", cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "r.html").exists()


def test_nothing_that_is_read_is_replaced(tmp_path: Path, harmless: Harmless) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "Hi", "output": "a"}\n')
    out = tmp_path / "scores.jsonl"
    assert harmless("score", rows, "-o", out, "--model", "demo").returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "link.html").symlink_to(rows)
    for name in ("scores.jsonl", "rows.jsonl", "scores.jsonl.run.json", "link.html"):
        done = harmless("report", out, "-o", tmp_path / name, "--overwrite")
        assert done.returncode == 1, name
        wrong = "not a regular file" if name == "link.html" else "is read for the report"
        assert wrong in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_inputs_are_found_beside_the_scores_and_fields_by_name(
    tmp_path: Path, harmless: Harmless
) -> None:
    (tmp_path / "rows.csv").write_text("id,instruction,output\n1,Hi,one\n2,Hi,two\n")
    done = harmless("score", "rows.csv", "-o", "scores.jsonl", "--model", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = harmless("report", "../scores.jsonl", "-o", "r.html", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    page = elsewhere / "r.html"
    assert {row["answer"] for row in data_of(page)["rows"]} == {"one", "two"}
    assert "harmless select ../rows.csv --scores ../scores.jsonl -o kept.csv" in page.read_text()
    assert "the bundled demo model" in page.read_text()
    refused = harmless(
        "report", "../scores.jsonl", "-o", "s.html", "--by", "nofield", cwd=elsewhere
    )
    assert "has the field nofield" in refused.stderr


def test_rows_that_were_too_long_are_no_other_rows(tmp_path: Path, harmless: Harmless) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    texts = ["a", "b" * 500, "c"]
    content = [{"id": i, "instruction": "Hi", "output": text} for i, text in enumerate(texts)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in content))
    done = harmless("score", rows, "-o", out, "--model", "demo", "--max-line-bytes", "200")
    assert done.returncode == 3
    done = harmless("report", out, "-o", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert {row["answer"] for row in data_of(tmp_path / "r.html")["rows"]} == {"a", "c"}
    refused = harmless("report", out, "-o", "/dev/null", "--overwrite")
    assert "/dev/null is not a regular file" in refused.stderr
