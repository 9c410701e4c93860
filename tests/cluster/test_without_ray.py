"""Runs with and without Ray on one output, one after the other or at the same time."""

from pathlib import Path

import pytest
from shards import CONFIG, run_over, score, write_shards

from harmless_runtime.cluster import driver
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.errors import OutputError
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Summary, Tally
from processes import Harmless
from runs import cpu_engine, make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray"),
    pytest.mark.filterwarnings("ignore"),  # those of Ray itself
]


def test_without_ray_an_output_is_not_written_beside_a_run_on_ray(
    tmp_path: Path, harmless: Harmless
) -> None:
    paths = write_shards(tmp_path / "rows", 2, 10)
    out = tmp_path / "out.jsonl"
    refused: list[str] = []

    def run_beside(_: Tally) -> None:
        if not refused:
            done = harmless("score", *paths, "-o", out, "--model", "demo", "--overwrite")
            refused.append(done.stderr)

    driver.score_on_ray(run_over(paths, out), CONFIG, Resources(workers=2), run_beside)
    assert "another run is writing this output" in refused[0]


def test_what_a_run_without_ray_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_shards(tmp_path / "rows", 2, 800)
    out, one = tmp_path / "out.jsonl", tmp_path / "one.jsonl"

    def interrupted(tally: Tally) -> None:
        if tally.rows > 900:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_files(run_over(paths, out, details=True), cpu_engine(), interrupted)
    state = (tmp_path / "out.jsonl.state").read_bytes()
    with monkeypatch.context() as patches:
        patches.setattr(driver, "score_pieces", None)  # it is not reached
        with pytest.raises(OutputError, match="details was True and is False"):
            score(paths, out, existing="resume")
    assert (tmp_path / "out.jsonl.state").read_bytes() == state
    assert not OutputPaths(out).pieces.exists()
    score(paths, out, existing="resume", details=True)
    score_files(run_over(paths, one, details=True), cpu_engine())
    assert out.read_bytes() == one.read_bytes()


def score_here(paths: list[Path], out: Path) -> Summary:
    return score_files(run_over(paths, out), cpu_engine())


@pytest.mark.parametrize("first", ["ray", "local"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_rows_that_change_when_all_are_scored(
    name: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores have not got their final names, and are not those of the rows any more."""
    paths = write_shards(tmp_path / "rows", 2, 100)
    out = tmp_path / name

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr("harmless_runtime.output.writer.give_final_names", interrupted)
        score_first = score if first == "ray" else score_here
        with pytest.raises(KeyboardInterrupt):
            score_first(paths, out)
    content = paths[0].read_text()
    paths[0].write_text(content.replace("word word", "fool fool"))  # the size stays
    message = "an input has changed" if first == "ray" else "are not those that were scored"
    with pytest.raises(OutputError, match=message):
        score(paths, out, existing="resume")
    assert not out.exists()
    paths[0].write_text(content)
    score(paths, out, existing="resume")
    score_files(run_over(paths, tmp_path / f"one-{name}"), cpu_engine())
    assert out.read_bytes() == (tmp_path / f"one-{name}").read_bytes()


def test_an_output_in_the_folder_of_the_inputs(tmp_path: Path) -> None:
    write_shards(tmp_path / "rows", 3, 100)
    out = tmp_path / "rows/out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score([tmp_path / "rows"], out, until=1)
    one = tmp_path / "one.jsonl"
    score_files(make_run([tmp_path / "rows"], one), cpu_engine())
    score([tmp_path / "rows"], out, existing="resume")
    assert out.read_bytes() == one.read_bytes()


def test_without_ray_the_pieces_are_not_forgotten(tmp_path: Path, harmless: Harmless) -> None:
    paths = write_shards(tmp_path / "rows", 2, 100)
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(paths, out, until=1)
    command = ("score", *paths, "-o", out, "--model", "demo")
    for more, hint in (
        ((), "--resume continues it, --overwrite starts again"),
        (("--resume",), "--engine ray and --resume continue it, --overwrite starts again"),
    ):
        done = harmless(*command, *more)
        assert done.returncode == 1
        assert hint in done.stderr
    assert harmless(*command, "--overwrite").returncode == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl", "out.jsonl.run.json", "out.rejects.jsonl", "rows",
    ]  # fmt: skip
