"""Results that are changed, removed or replaced during a run are noticed."""

from pathlib import Path

import pytest
from interrupted import COUNT, resume, score, stop_after, write_rows

from harmless_runtime.errors import OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.tally import Tally
from reading import read_outputs
from runs import cpu_engine


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundled model with windows of 60 lines."""
    return cpu_engine(window_rows=60)


def test_an_output_that_appears_at_the_end_costs_no_score(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    appeared: list[Path] = []

    def appear(tally: Tally) -> None:
        if tally.rows > 300 and not appeared:
            out.write_text("precious")
            appeared.append(out)

    with pytest.raises(OutputError, match="has appeared during the run"):
        score(rows, out, engine, on_progress=appear, commit_seconds=1000.0)
    out.rename(tmp_path / "precious")
    summary = resume(rows, out, engine)
    assert summary.resumed == summary.tally, "nothing was done again"
    assert len(out.read_bytes().splitlines()) == COUNT - 8


def test_an_output_that_appears_is_noticed_soon(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    told: list[int] = []

    def appear(tally: Tally) -> None:
        told.append(tally.rows)
        if tally.rows > 100 and not out.exists():
            out.write_text("precious")

    with pytest.raises(OutputError, match="has appeared during the run") as raised:
        score(rows, out, engine, on_progress=appear)
    assert raised.value.hint == "move it away; `resume` then goes on"
    assert max(told) < COUNT - 8
    told.clear()
    with pytest.raises(OutputError, match="has appeared during the run"):
        resume(rows, out, engine, on_progress=appear)
    assert not told, "nothing was scored"
    assert out.read_text() == "precious"
    out.unlink()
    assert resume(rows, out, engine).resumed.rows > 0
    score(rows, tmp_path / "whole.jsonl", engine)
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")


def test_rejects_that_appear_are_noticed_before_a_resumed_run_scores(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    OutputPaths(out).rejects.final.touch()
    with pytest.raises(OutputError, match=r"o\.rejects\.jsonl has appeared during the run"):
        resume(rows, out, engine, on_progress=lambda _: pytest.fail("rows are scored"))


@pytest.mark.parametrize("kept", ["scores", "rejects"])
def test_results_that_have_lost_their_state_are_not_replaced(
    kept: str, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    paths = OutputPaths(out)
    stop_after(100, rows, out, engine)
    state = paths.state.rename(tmp_path / "elsewhere")
    other = paths.scores if kept == "rejects" else paths.rejects
    left = other.partial.rename(tmp_path / "left")
    before = getattr(paths, kept).partial.read_bytes()
    with pytest.raises(OutputError, match=r"holds results, but .*o\.jsonl\.state.* is missing"):
        resume(rows, out, engine)
    assert getattr(paths, kept).partial.read_bytes() == before
    state.rename(paths.state)
    left.rename(other.partial)
    assert resume(rows, out, engine).resumed.rows > 0
    score(rows, tmp_path / "whole.jsonl", engine)
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")


def test_results_that_have_lost_their_state_are_replaced_if_that_is_asked_for(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    OutputPaths(out).state.unlink()
    score(rows, out, engine, existing="overwrite")
    assert len(out.read_bytes().splitlines()) == COUNT - 8


def test_results_that_were_changed_are_not_resumed(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    partial = OutputPaths(out).scores.partial
    partial.write_bytes(partial.read_bytes().replace(b'"score": ', b'"score":9', 1))
    with pytest.raises(OutputError, match="has lost or changed some of its first"):
        resume(rows, out, engine)


@pytest.mark.parametrize("step", ["removed", "replaced"])
def test_results_that_vanish_during_the_run_are_noticed(
    step: str, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    partial = OutputPaths(out).scores.partial

    def vanish(tally: Tally) -> None:
        if tally.rows > 300:
            partial.unlink(missing_ok=True)
            if step == "replaced":
                partial.touch()

    with pytest.raises(OutputError, match="was removed or replaced during the run"):
        score(rows, out, engine, on_progress=vanish)
    assert not out.exists()


@pytest.mark.parametrize("content", [None, b"", b"less"])
def test_complete_results_that_vanish_before_the_renaming_are_noticed(
    content: bytes | None, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    partial = OutputPaths(out).scores.partial

    def appear(tally: Tally) -> None:
        if tally.rows > 300:
            out.touch()

    with pytest.raises(OutputError, match="has appeared"):
        score(rows, out, engine, on_progress=appear, commit_seconds=1000.0)
    out.unlink()
    partial.unlink()
    if content is not None:
        partial.write_bytes(content)
    with pytest.raises(OutputError, match=r"does not have the .* bytes that the state claims"):
        resume(rows, out, engine)
    assert not out.exists()


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_rows_that_change_when_all_are_scored(
    name: str, rows: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores have not got their final names, and are not those of the rows any more."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr("harmless_runtime.output.writer.give_final_names", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score(rows, tmp_path / name, engine)
    content = rows.read_bytes()
    rows.write_bytes(content.replace(b"one", b"two"))
    with pytest.raises(OutputError, match="are not those that were scored"):
        resume(rows, tmp_path / name, engine)
    rows.write_bytes(content)
    resume(rows, tmp_path / name, engine)
    assert (tmp_path / name).exists()
