"""The commands in the documents work as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from harmless_runtime import Gpt2HarmlessScorer, bundled
from reading import read_rows

DOCS = Path(__file__).parents[1] / "docs"
# The pages whose commands are run below.
RUN = {
    "configuration.md", "cpu.md", "eval.md", "inputs.md", "jobs.md", "outputs.md", "report.md",
    "tutorial.md",
}  # fmt: skip


def test_every_command_of_the_page_about_inputs_runs(tmp_path: Path) -> None:
    errors = run_commands("inputs.md", tmp_path)
    scores = {path.name: read_rows(path) for path in tmp_path.glob("*.jsonl")}
    expected = scores["scores.jsonl"]
    for name in ("from-gzip", "from-array", "from-parquet", "from-saved", "pipe"):
        assert scores[f"{name}.jsonl"] == expected
    assert scores["folder.jsonl"] == scores["pattern.jsonl"] == expected * 2
    assert len(scores["both.jsonl"]) == 3
    (of_json,) = scores["from-mixed.jsonl"]
    assert of_json["score"] == expected[0]["score"]
    assert scores["other-scores.jsonl"][0]["id"] == "x1"
    assert scores["chat-scores.jsonl"] != scores["with-system.jsonl"]
    (chat,), (story,) = scores["chat-scores.jsonl"], scores["story-scores.jsonl"]
    assert story["score"] == chat["score"]
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
    return run_blocks((DOCS / page).read_text(), folder)


def run_blocks(text: str, folder: Path) -> str:
    """Run the commands of a text, as `run_commands` does."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    assert blocks
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
    lowest = min(joined[::2], key=lambda row: row["harmless_score"])
    assert worst["tags"] == lowest["tags"]


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


def test_every_command_of_the_page_about_jobs_runs(tmp_path: Path) -> None:
    run_commands("jobs.md", tmp_path)
    told = re.search(r"^```json\n(.*?)^```", (DOCS / "jobs.md").read_text(), re.S | re.M)
    assert told is not None
    (line,) = read_rows(tmp_path / "results/pointwise_scores.jsonl")
    expected = json.loads(told[1])
    score = expected["scores"]["Gpt2HarmlessScorer"]["score"]
    score = pytest.approx(score, abs=1e-4)
    assert line == {"id": 0, "scores": {"Gpt2HarmlessScorer": {"score": score}}}


@pytest.mark.parametrize("page", ["tutorial.md", "cpu.md", "configuration.md"])
def test_every_command_of_other_pages_runs(page: str, tmp_path: Path) -> None:
    run_commands(page, tmp_path)
    (scores,) = (path for path in tmp_path.glob("*scores.jsonl"))
    assert scores.stat().st_size
    if page == "tutorial.md":
        assert [row["id"] for row in read_rows(tmp_path / "safest.jsonl")]
        (reject,) = read_rows(tmp_path / "scores.rejects.jsonl")
        assert reject["line"] == 6


@pytest.mark.parametrize("page", ["../README.md", "serve.md"])
def test_the_python_of_other_pages_runs(page: str, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)


def test_the_first_commands_of_the_readme_give_its_scores(tmp_path: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", readme, re.S | re.M)
    first = re.search(r"^```sh\n.*?^```\n", readme, re.S | re.M)
    assert first is not None
    run_blocks(first[0], tmp_path)
    for line, row in zip(
        map(json.loads, block.splitlines()), read_rows(tmp_path / "scores.jsonl"), strict=True
    ):
        assert row == line | {"score": pytest.approx(line["score"], abs=1e-4)}
    assert (tmp_path / "report.html").stat().st_size


def test_what_the_space_before_an_answer_changes() -> None:
    dialogues = [row[side] for row in read_rows(bundled.PAIRS) for side in ("chosen", "rejected")]
    asked, _, answers = zip(*(text.rpartition("\n\nAssistant:") for text in dialogues), strict=True)
    requests = [text.removeprefix("\n\nHuman: ") for text in asked]
    scorer = Gpt2HarmlessScorer({"model": "demo"})
    with_space = scorer.score(requests, answers)
    apart = abs(with_space - scorer.score(requests, [text[1:] for text in answers]))
    apart = apart / with_space.std()
    told = f"{apart.mean():.2f} standard deviations apart on average, and {apart.max():.2f} at most"
    assert told in (DOCS / "eval.md").read_text()


def test_every_page_is_run_or_says_why_not() -> None:
    """Blocks of commands that are not run are `text`, and a comment above each gives the reason."""
    for page in DOCS.glob("*.md"):
        text = page.read_text()
        if "\n```sh\n" in text:
            assert page.name in RUN, page
        for before, block in re.findall(r"(.*)\n```text\n(.*?)^```", text, re.M | re.S):
            if re.search(r"^(harmless|pip|python) ", block, re.M):
                assert before.splitlines()[-1].startswith("<!-- not run: "), f"{page}: {block}"


EXAMPLES = DOCS / "examples"


def run_example(name: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments, "--model", "demo"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples(tmp_path: Path) -> None:
    rows, kept = tmp_path / "rows.jsonl", tmp_path / "kept.jsonl"
    content = [{"id": i, "instruction": "Hi", "output": text} for i, text in enumerate("abc")]
    rows.write_text("".join(json.dumps(row) + "\n" for row in [*content, {"id": 3}]))
    told = run_example("filter_rows.py", rows, kept, "--above", "-100")
    assert (read_rows(kept), told) == (content, "dropped line 4: nan\n")
    rows.write_text(rows.read_text() + "{oh\n")
    told = run_example("filter_rows.py", rows, kept, "--above", "100")
    assert (told.count("dropped"), "line 5 is not JSON" in told) == (4, True)
    candidates = tmp_path / "candidates.jsonl"
    groups = [
        {"prompt": "Hi", "responses": responses} for responses in (["Hello!"], [], ["a", "b"])
    ]
    candidates.write_text("".join(json.dumps(group) + "\n" for group in groups))
    best = [json.loads(line) for line in run_example("best_of_n.py", candidates).splitlines()]
    scores = Gpt2HarmlessScorer({"model": "demo"}).score(["Hi"] * 3, ["Hello!", "a", "b"]).tolist()
    assert [each["score"] for each in best] == pytest.approx([scores[0], max(scores[1:])])
    assert len(json.loads(run_example("reward_for_training.py"))) == 2
    assert {path.name for path in EXAMPLES.iterdir()} == {
        "filter_rows.py", "best_of_n.py", "reward_for_training.py", "ray_data.py",
    }  # fmt: skip


def path_with_our_own() -> str:
    """Return a PATH on which `harmless` and `python` are those that run the tests."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
