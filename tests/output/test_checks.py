"""Files that are never overwritten, and names that an output may have."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from forms import jsonl, make_rows
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.paths import rejects_path
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Existing, join_column
from harmless_runtime.tally import Tally
from processes import COMMAND
from reading import names_in
from runs import cpu_engine, make_run


def test_rejects_of_two_outputs_never_share_a_name() -> None:
    names = ["a", "a.jsonl", "a.txt", "a.jsonl.gz", "b.c.jsonl"]
    paths = {rejects_path(Path("folder", name)) for name in names}
    assert len(paths) == len(names)
    assert rejects_path(Path("folder/a.jsonl")) == Path("folder/a.rejects.jsonl")


TAKEN = [
    "s.jsonl", "s.rejects.jsonl", "s.jsonl.partial", "s.jsonl.state", "s.jsonl.state.tmp",
    "s.jsonl.run.json.tmp", "s.jsonl.made",
]  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_exists_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    out = tmp_path / "s.jsonl"
    with pytest.raises(OutputError, match=r"already exists\nhint: `resume` .*, `overwrite` starts"):
        check_output(make_run([], out))
    for existing in ("overwrite", "resume"):
        with pytest.raises(OutputError, match="is an input, and would be overwritten"):
            check_output(make_run(["-", tmp_path / name], out, existing=existing))
        with pytest.raises(OutputError, match="is an input, and would be overwritten"):
            check_output(make_run([f"file://{tmp_path}/{name}"], out, existing=existing))
    assert names_in(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "partial.jsonl.partial").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "record.jsonl.run.json").symlink_to(tmp_path / "target")
    (tmp_path / "temporary.jsonl.run.json.tmp").symlink_to(tmp_path / "target")
    for name in ("link", "dangling", "partial", "fifo", "folder", "record", "temporary"):
        with pytest.raises(OutputError, match="is not a regular file"):
            check_output(make_run([], tmp_path / f"{name}.jsonl", existing="overwrite"))
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize("existing", get_args(Existing))
def test_names_that_no_output_may_have(existing: Existing, tmp_path: Path) -> None:
    for name in ("", ".", "/"):
        with pytest.raises(OutputError, match="is not the name of a file"):
            check_output(make_run([], Path(name), existing=existing))
    for suffix in (".partial", ".state", ".lock", ".tmp"):
        with pytest.raises(OutputError, match=f"ends in {suffix}, which is reserved"):
            check_output(make_run([], tmp_path / f"x.jsonl{suffix}", existing=existing))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder"):
        check_output(make_run([], tmp_path / "file/where", existing=existing))


@pytest.mark.parametrize("url", ["file://{}/in", "file://localhost{}/in/", "file://{}/in/*.jsonl"])
def test_a_url_of_a_local_file_is_its_path(url: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a b.jsonl").write_bytes(jsonl(make_rows(3)))
    run = make_run([url.format(tmp_path)], tmp_path / "in", is_folder=True, existing="overwrite")
    assert [source.name for source in run.inputs.sources] == [f"{tmp_path}/in/a b.jsonl"]
    with pytest.raises(OutputError, match=r"a b\.jsonl is an input, and would be overwritten"):
        check_output(run)


def test_a_url_of_a_local_file_may_be_encoded(tmp_path: Path) -> None:
    (tmp_path / "a b.jsonl").write_bytes(jsonl(make_rows(3)))
    encoded = (tmp_path / "a b.jsonl").as_uri()
    assert open_inputs([encoded]).sources == open_inputs([str(tmp_path / "a b.jsonl")]).sources
    (tmp_path / "a%20b.jsonl").write_bytes(jsonl(make_rows(2)))
    assert open_inputs([encoded]).sources[0].name == f"{tmp_path}/a%20b.jsonl"
    with pytest.raises(InputError, match="file:// names no file"):
        open_inputs(["file://"])


def test_a_file_in_the_place_of_a_folder_is_noticed(tmp_path: Path) -> None:
    for name in ("in/sub/s.jsonl", "other/sub"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(jsonl(make_rows(3)))
    out = tmp_path / "out"
    out.mkdir()
    refused = pytest.raises(OutputError, match=r"out/sub/s\.jsonl, but .*out/sub is a file")
    with refused:
        check_output(make_run([tmp_path / "in", tmp_path / "other/sub"], out, is_folder=True))
    for existing in get_args(Existing):
        (out / "sub").write_text("mine")
        with refused:
            check_output(make_run(tmp_path / "in", out, is_folder=True, existing=existing))
        (out / "sub").unlink()


ROW = '{"id": 1, "instruction": "a", "output": "b", "score": 2}\n'


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "rows.jsonl", "-o", "new/../rows.jsonl"],
        ["score", "rows.jsonl", "-o", "n1/n2/../../rows.jsonl", "--join"],
        ["score", "rows.jsonl", "-o", "new/../link/../rows.jsonl"],
        ["score", "h.jsonl.partial", "-o", "new/../h.jsonl"],
        ["score", "h.jsonl.state", "-o", "new/../h.jsonl"],
        ["score", "h.jsonl.lock", "-o", "new/../h.jsonl"],
        ["score", "folder/rows.jsonl", "-o", "new/../folder/", "--join"],
        ["select", "rows.jsonl", "-o", "new/../rows.jsonl", "--top", "1"],
        ["report", "rows.jsonl", "-o", "new/../rows.jsonl"],
    ],
    ids=" ".join,
)
def test_an_input_is_not_written_over_by_a_path_that_leads_nowhere_yet(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    names = ("rows.jsonl", "h.jsonl.partial", "h.jsonl.state", "folder/rows.jsonl")
    for name in names:
        (tmp_path / name).write_text(ROW)
    (tmp_path / "h.jsonl.lock").touch()
    model = ["--model", "demo"] if arguments[0] == "score" else []
    command: list[str | Path] = [COMMAND, *arguments, "--overwrite", *model]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "input" in done.stderr or "is read for the report" in done.stderr
    assert all((tmp_path / name).read_text() == ROW for name in names)
    assert (tmp_path / "h.jsonl.lock").exists()
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "n1").exists()


def test_an_output_that_becomes_an_input_during_the_run_is_left_alone(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "o.jsonl"
    rows.write_text(ROW)
    run = make_run(rows, out, existing="overwrite")

    def link(tally: Tally) -> None:
        if tally.rows and not out.exists():
            os.link(rows, out)

    with pytest.raises(OutputError, match=r"o\.jsonl has become an input during the run"):
        score_files(run, cpu_engine(), link)
    assert rows.read_text() == ROW
    out.unlink()
    score_files(make_run(rows, out, existing="resume"), cpu_engine())
    assert len(out.read_text().splitlines()) == 1


def looks_at_files(count: int, folder: Path) -> int:
    """Return how often files are looked at before a folder of outputs is written again."""
    rows, out = folder / "rows", folder / "out"
    for path in (rows, out):
        path.mkdir()
        for number in range(count):
            (path / f"{number}.jsonl").touch()
    run = make_run([rows], out, existing="overwrite", is_folder=True)
    looks = 0

    def note(_frame: object, event: str, called: object) -> None:
        nonlocal looks
        looks += event == "c_call" and getattr(called, "__name__", "") in ("stat", "lstat")

    sys.setprofile(note)
    try:
        check_output(run)
    finally:
        sys.setprofile(None)
    return looks


def test_the_checks_of_a_folder_take_time_in_proportion_to_its_files(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    few, many = looks_at_files(50, tmp_path / "few"), looks_at_files(200, tmp_path / "many")
    assert few > 50
    assert many < 5 * few


@pytest.mark.parametrize("name", ["s.rejects.jsonl", "s.jsonl.run.json.tmp", "s.jsonl.made"])
def test_what_no_run_has_left_is_not_resumed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} exists, but there is no state file"):
        check_output(make_run([], tmp_path / "s.jsonl", existing="resume"))


def test_a_score_column_has_to_be_text() -> None:
    with pytest.raises(ConfigError, match=r"score_column is not valid UTF-8: '\\udcff'"):
        join_column(os.fsdecode(b"\xff"), join=True, details=False)
