"""No job writes over rows or another program's files, and only scores of the same rows meet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harmless_runtime.cli.score import Arguments
from harmless_runtime.cli.score import run as run_score
from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.jobs.job import make_job
from harmless_runtime.jobs.places import results_in
from harmless_runtime.output.locks import held_lock
from reading import read_rows

TOGETHER = "out/pointwise_scores.jsonl"
PLACE = "out/master_temp/scorer_Gpt2HarmlessScorer/Gpt2HarmlessScorer.jsonl"
NAMES = ("Gpt2HarmlessScorer", "Gpt2HelpfulScorer")
Job = Callable[..., None]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Runs a job in the folder of the test, whose rows are in rows.jsonl."""
    monkeypatch.chdir(tmp_path)
    write_rows("one", "two")

    def run(*names: str, overwrite: bool = False, resume: bool = False, **keys: Any) -> None:
        keys = {"input_path": "rows.jsonl", "output_path": "out", "num_gpu": 0} | keys
        scorers = [{"name": name, "model": "demo"} for name in names or NAMES[:1]]
        path = Path("job.yaml")
        path.write_text(json.dumps({"scorers": scorers} | keys))  # JSON is YAML
        arguments = Arguments(
            [], None, path, {"model": None}, overwrite=overwrite, resume=resume, strict=False,
            details=False, join=False, score_column=None, dry_run=False,
        )  # fmt: skip
        run_score(Console(stderr=True), arguments)

    return run


def write_rows(*texts: str) -> None:
    rows = [{"instruction": text, "output": text} for text in texts]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def scores() -> list[dict[str, Any]]:
    return [line["scores"] for line in read_rows(Path(TOGETHER))]


def test_an_earlier_jobs_scores_are_added_if_they_are_of_the_same_rows(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    job(NAMES[1])
    job(NAMES[0], resume=True)
    assert [list(line) for line in scores()] == [list(NAMES)] * 2
    write_rows("three", "four")
    job(NAMES[0], overwrite=True)
    assert [list(line) for line in scores()] == [[NAMES[0]]] * 2
    assert "has scores of other rows, which are left out" in caplog.text


def test_other_programs_files_are_not_replaced(job: Job) -> None:
    Path("out").mkdir()
    Path(TOGETHER).write_text('{"id": 0}\n')
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"pointwise_scores\.jsonl"):
            job(resume=resume)
    assert Path(TOGETHER).read_text() == '{"id": 0}\n'
    job(overwrite=True)
    assert len(scores()) == 2


@pytest.mark.parametrize("name", [TOGETHER, f"{TOGETHER}.tmp", PLACE])
def test_links_folders_and_the_input_are_never_written_over(name: str, job: Job) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Path("victim").write_text("mine")
    path.symlink_to(Path("victim").resolve())
    with pytest.raises(OutputError, match="is not a regular file"):
        job(overwrite=True)
    path.unlink()
    path.mkdir()
    with pytest.raises(OutputError, match="is not a regular file"):
        job(overwrite=True)
    path.rmdir()
    content = Path("rows.jsonl").read_text()
    path.write_text(content)
    with pytest.raises(OutputError, match="is the input"):
        job(overwrite=True, input_path=name)
    assert path.read_text() == content
    assert Path("victim").read_text() == "mine"


def test_two_jobs_do_not_write_the_same_folder(job: Job) -> None:
    Path("out").mkdir()
    with held_lock(Path(f"{TOGETHER}.lock")), pytest.raises(OutputError, match="another run"):
        job()
    job()
    assert len(scores()) == 2


def test_folders_that_are_files(job: Job) -> None:
    Path("out").mkdir()
    Path("out/master_temp").write_text("")
    with pytest.raises(OutputError, match="out/master_temp is not a folder"):
        job()


def test_an_input_that_two_scorers_cannot_read(job: Job) -> None:
    with pytest.raises(ConfigError, match="can be read only once"):
        job(*NAMES, input_path="-")


def test_an_input_that_changes_between_two_scorers(job: Job) -> None:
    job(NAMES[0])
    write_rows("three", "four")
    job(NAMES[1], resume=True)
    path = Path("job.yaml")
    both = json.loads(path.read_text()) | {"scorers": [{"name": name} for name in NAMES]}
    with pytest.raises(OutputError, match=r"rows\.jsonl has changed in between"):
        results_in(make_job(path, both))
