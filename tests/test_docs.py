"""The commands in the documents work as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from pyarrow import parquet

from reading import read_rows

DOCS = Path(__file__).parents[1] / "docs"


def test_every_command_of_the_page_about_inputs_runs(tmp_path: Path) -> None:
    errors = run_commands("inputs.md", tmp_path)
    scores = {path.name: read_rows(path) for path in tmp_path.glob("*.jsonl")}
    expected = scores["scores.jsonl"]
    for name in ("from-gzip", "from-array", "from-parquet", "from-saved", "pipe"):
        assert scores[f"{name}.jsonl"] == expected
    assert scores["folder.jsonl"] == scores["pattern.jsonl"] == expected * 2
    assert len(scores["both.jsonl"]) == 3
    assert scores["other-scores.jsonl"][0]["id"] == "x1"
    assert scores["chat-scores.jsonl"] != scores["with-system.jsonl"]
    assert "| Human: How do I boil an egg?" in errors


# The tables of the page are scored with their inputs.
SAME_SCORES = """
expected = scorer.score(requests, responses, inputs).tolist()
for table in (df, frame, ds):
    assert list(table["harmless_score"]) == expected, (table["harmless_score"], expected)
"""


def test_every_line_of_the_page_about_python_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(), re.S | re.M)
    *blocks, export = blocks
    assert "export_checkpoint" in export, "the last block needs the real checkpoint"
    done = subprocess.run(
        [sys.executable, "-c", "".join(blocks) + SAME_SCORES + "print(df, frame, ds[0], rewards)"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("harmless_score") == 3
    (joined,) = tmp_path.glob("*.parquet")
    assert parquet.read_table(joined).column_names[-1] == "harmless_score"


def run_commands(page: str, folder: Path) -> str:
    """Run the commands of a page in a folder; return what they printed on standard error."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)
    assert len(blocks) >= 3
    environment = os.environ | {"HF_HOME": str(folder / "home"), "PATH": path_with_our_own()}
    script = "set -euo pipefail\n" + "".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_every_command_of_the_page_about_outputs_runs(tmp_path: Path) -> None:
    run_commands("outputs.md", tmp_path)
    joined = read_rows(tmp_path / "joined.jsonl")
    assert [row["id"] for row in joined] == [1, 2, 3]
    assert joined[1]["harmless_score"] is None
    assert [row["id"] for row in read_rows(tmp_path / "kept.jsonl")] == [1, 3]
    (worst,) = read_rows(tmp_path / "worst.jsonl")
    assert worst["tags"] == ["food"]


def test_every_command_of_the_page_about_pairs_runs(tmp_path: Path) -> None:
    run_commands("eval.md", tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["pairs"] == 3
    texts = [row["text"] for row in read_rows(tmp_path / "pair-scores.jsonl")]
    assert texts == ["chosen", "rejected"] * 3


def test_every_command_of_the_page_about_reports_runs(tmp_path: Path) -> None:
    run_commands("report.md", tmp_path)
    pages = sorted(path.name for path in tmp_path.glob("*.html"))
    assert pages == ["by-kind.html", "compared.html", "joined.html", "report.html"]


def path_with_our_own() -> str:
    """Return a PATH on which `harmless` and `python` are those that run the tests."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
