"""The jobs of OpenDataArena's data scorers, run by `harmless score --config`."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harmless_runtime import Gpt2HarmlessScorer, bundled
from harmless_runtime.cli import job as job_command
from harmless_runtime.cli.score import Arguments
from harmless_runtime.config import ScorerConfig, read_yaml
from harmless_runtime.jobs.job import make_job
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.cuda import Obstacle
from processes import Harmless
from reading import names_in, read_rows

# What the framework's own example holds, with other paths and another model.
EXAMPLE = """\
input_path: {rows}
output_path: {out}
num_gpu: 4
num_gpu_per_job: 1
scorers:
- name: Gpt2HarmlessScorer
  model: demo
  batch_size: 8
  max_length: 1024
  num_gpu_per_job: 1
"""
TOGETHER = "pointwise_scores.jsonl"
OWN = "master_temp/scorer_Gpt2HarmlessScorer"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows without ids, as the framework's example has them."""
    texts = [{k: v for k, v in row.items() if k != "id"} for row in read_rows(bundled.ROWS)[:12]]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return path


def write_job(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_the_example(rows: Path, tmp_path: Path, harmless: Harmless) -> None:
    out = tmp_path / "results/Gpt2HarmlessScorer/"
    job = write_job(tmp_path, EXAMPLE.format(rows=rows, out=out))
    done = harmless("score", "--config", job)
    assert done.returncode == 0, done.stderr
    assert "num_gpu is 4, and no GPU can be used here" in done.stderr
    plain = tmp_path / "plain.jsonl"
    assert harmless("score", rows, "-o", plain, "--model", "demo").returncode == 0
    expected = [{"id": i, "score": row["score"]} for i, row in enumerate(read_rows(plain))]
    assert read_rows(out / OWN / "Gpt2HarmlessScorer_merged.jsonl") == expected
    assert read_rows(out / TOGETHER) == [
        {"id": row["id"], "scores": {"Gpt2HarmlessScorer": {"score": row["score"]}}}
        for row in expected
    ]
    assert "get the id" not in done.stderr  # because they get numbers
    assert names_in(out) == [
        "Gpt2HarmlessScorer.jsonl", "Gpt2HarmlessScorer.jsonl.run.json", "master_temp", TOGETHER,
    ]  # fmt: skip

    again = harmless("score", "--config", job)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert "--resume" in again.stderr
    (out / TOGETHER).unlink()
    job.write_text(job.read_text().replace("num_gpu: 4", "num_gpu: 1"))
    resumed = harmless("score", "--config", job, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "already complete" in resumed.stderr
    assert len(read_rows(out / TOGETHER)) == len(expected)
    # The framework would take the scores of the earlier run, if they were left.
    assert names_in(out / OWN) == ["Gpt2HarmlessScorer.jsonl"]


def test_two_scorers_beside_others(
    artifact: Artifact, rows: Path, tmp_path: Path, harmless: Harmless
) -> None:
    theirs = tmp_path / "out/master_temp/scorer_IFDScorer"
    theirs.mkdir(parents=True)
    (theirs / "IFDScorer.jsonl").write_text('{"id": 2, "IFD": 0.5, "why": "\\u00e9"}\n')
    whole = tmp_path / "out/master_temp/scorer_VendiScorer"
    whole.mkdir()
    (whole / "VendiScorer.jsonl").write_text('{"vendi": 3}\n')
    job = write_job(
        tmp_path,
        f"input_path: {rows}\noutput_path: {tmp_path}/out\nnum_gpu: 0\nscorers:\n"
        "- {name: Gpt2HarmlessScorer, model: demo}\n- {name: IFDScorer, model: x}\n"
        f"- {{name: Gpt2HelpfulScorer, model: {artifact.folder}, sub_name: helpful}}\n",
    )
    done = harmless("score", "--config", job)
    assert done.returncode == 0, done.stderr
    assert "left out, because this command has no such scorer: IFDScorer" in done.stderr
    assert "num_gpu" not in done.stderr
    first = read_rows(tmp_path / "out" / OWN / "Gpt2HarmlessScorer.jsonl")
    second = read_rows(tmp_path / "out/master_temp/scorer_Gpt2HelpfulScorer/helpful.jsonl")
    texts = read_rows(rows)
    scorer = Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu"})
    assert [line["score"] for line in second] == pytest.approx(scorer.score_batch(texts), abs=1e-5)
    assert first != second
    together = read_rows(tmp_path / "out" / TOGETHER)
    assert [line["id"] for line in together] == list(range(len(texts)))
    for line, one, two in zip(together, first, second, strict=True):
        expected: dict[str, Any] = {"Gpt2HarmlessScorer": {"score": one["score"]}}
        expected["Gpt2HelpfulScorer"] = {"score": two["score"]}
        if line["id"] == 2:
            expected["IFDScorer"] = {"IFD": 0.5, "why": "é"}
        assert line["scores"] == expected


def test_ids_are_kept_and_bad_rows_counted(tmp_path: Path, harmless: Harmless) -> None:
    good = '{"instruction": "a", "output": "b"%s}\n'
    lines = [good % "", "{\n", "\n", good % ', "id": null', good % ', "id": "x"', good % ""]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(lines))
    job = write_job(tmp_path, EXAMPLE.format(rows=rows, out=tmp_path / "out"))
    done = harmless("score", "--config", job)
    assert done.returncode == 3, done.stderr
    out = tmp_path / "out"
    ids = [line["id"] for line in read_rows(out / TOGETHER)]
    assert ids == [0, 2, "x", 4]  # the second row is bad, and the blank line is no row
    assert [row["line"] for row in read_rows(out / "Gpt2HarmlessScorer.rejects.jsonl")] == [2]
    assert names_in(out / OWN) == ["Gpt2HarmlessScorer_merged.jsonl"]

    job.write_text(job.read_text() + "resume: true\ndata_with_id: true\n")
    done = harmless("score", "--config", job)
    assert done.returncode == 0, done.stderr
    assert [line["id"] for line in read_rows(out / TOGETHER)] == ["", None, "x", ""]


def test_what_another_program_wrote_is_not_replaced(
    rows: Path, tmp_path: Path, harmless: Harmless
) -> None:
    text = EXAMPLE.format(rows=rows, out=tmp_path / "out") + "resume: true\n"
    job = write_job(tmp_path, text)
    place = tmp_path / "out" / OWN / "Gpt2HarmlessScorer_merged.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text('{"id": 0, "score": 1.5}\n')
    done = harmless("score", "--config", job)
    assert done.returncode == 1
    assert "was not written by this command" in done.stderr
    assert len(read_rows(place)) == 1
    done = harmless("score", "--config", job, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert len(read_rows(place)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jsonl"], "whose input_path stands for an input"),
        (["-o", "x.jsonl"], "whose output_path stands for an output"),
        (["--join"], "not joined to the rows"),
        (["--overwrite", "--resume"], "exclude each other"),
    ],
)
def test_what_the_command_line_may_not_say(
    arguments: list[str], message: str, rows: Path, tmp_path: Path, harmless: Harmless
) -> None:
    job = write_job(tmp_path, EXAMPLE.format(rows=rows, out=tmp_path / "out"))
    done = harmless("score", "--config", job, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_writes_nothing(rows: Path, tmp_path: Path, harmless: Harmless) -> None:
    job = write_job(tmp_path, EXAMPLE.format(rows=rows, out=tmp_path / "out"))
    done = harmless("score", "--config", job, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "12 rows" in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_input(harmless: Harmless) -> None:
    done = harmless("score", "-o", "x.jsonl")
    assert done.returncode == 2
    assert "no input is named" in done.stderr


@pytest.mark.parametrize(
    ("has_cuda", "has_ray", "engine", "workers", "warning"),
    [
        (True, True, None, 4, ""),
        (True, False, None, None, "one GPU scores: for several, pip install"),
        (True, True, "local", None, ""),
        (False, True, None, None, "no GPU can be used here"),
    ],
)
def test_several_gpus_score_on_ray(
    has_cuda: bool,
    has_ray: bool,
    engine: Any,
    workers: int | None,
    warning: str,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    obstacle = None if has_cuda else Obstacle("there is none")
    monkeypatch.setattr(job_command, "cuda_obstacle", lambda _: obstacle)
    monkeypatch.setattr(job_command, "find_spec", lambda _: "ray" if has_ray else None)
    asked: list[Arguments] = []

    def score(_console: Console, arguments: Arguments, _config: ScorerConfig) -> bool:
        asked.append(arguments)
        return True

    monkeypatch.setattr(job_command, "score", score)
    path = write_job(tmp_path, EXAMPLE.format(rows=rows, out=tmp_path / "out"))
    flags = dict.fromkeys(["model"])
    arguments = Arguments(
        [], None, path, flags, overwrite=False, resume=False, strict=False, details=False,
        join=False, score_column=None, dry_run=True, engine=engine,
    )  # fmt: skip
    assert job_command.run_job(Console(stderr=True), arguments, make_job(path, read_yaml(path)))
    assert [arguments.workers for arguments in asked] == [workers]
    said = " ".join(capsys.readouterr().err.split())
    assert warning in said
    assert bool(warning) == ("warning" in said)
