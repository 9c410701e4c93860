"""Speakers and fields of turns that have other names are named once, and read so at every door."""

import json
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError
from processes import Harmless
from reading import read_rows

DEMO = ("--model", "demo", "--provider", "cpu")
NAMED = ("--columns", "messages=chat,role=who,content=said", "--roles", "Alice=user,bob=assistant")
SETTINGS: dict[str, Any] = {
    "model": "demo", "columns": {"messages": "chat", "role": "who", "content": "said"},
    "roles": {"Alice": "user", "bob": "assistant"},
}  # fmt: skip
TURNS = [
    ("alice", "user", "How do I boil an egg?"),
    ("Bob", "assistant", "For how long do you like it?"),
    ("ALICE", "user", "Seven minutes."),
    ("Bob", "assistant", "Then boil it for seven minutes."),
]
ROWS: list[Any] = [
    {"id": n, "chat": [{"who": w, "said": t} for w, _, t in TURNS[:n]]} for n in (2, 4)
]
PLAIN = [{"messages": [{"role": r, "content": t} for _, r, t in TURNS[:n]]} for n in (2, 4)]


@pytest.fixture(scope="module")
def expected() -> Any:
    return pytest.approx(Gpt2HarmlessScorer({"model": "demo"}).score_batch(PLAIN), abs=1e-5)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def scores_in(path: Path) -> list[float]:
    return [row["score"] for row in read_rows(path)]


@pytest.mark.parametrize(
    "engine", [(), pytest.param(("--engine", "ray", "--workers", "1"), marks=pytest.mark.slow)]
)
def test_the_command(engine: Any, rows: Path, harmless: Harmless, expected: Any) -> None:
    out = rows.with_name("scores.jsonl")
    done = harmless("score", rows, "-o", out, *DEMO, *NAMED, *engine)
    assert done.returncode == 0, done.stderr
    assert scores_in(out) == expected


def test_a_run_is_read_again_as_it_was(rows: Path, harmless: Harmless, expected: Any) -> None:
    out = rows.with_name("scores.jsonl")
    assert harmless("score", rows, "-o", out, *DEMO, *NAMED).returncode == 0
    page = rows.with_name("report.html")
    done = harmless("report", out, "-o", page)
    assert done.returncode == 0, done.stderr
    assert "For how long do you like it?" in page.read_text()
    kept = rows.with_name("kept.jsonl")
    done = harmless("select", rows, "--scores", out, "-o", kept, "--top", "1")
    assert done.returncode == 0, done.stderr
    assert read_rows(kept) == [max(zip(scores_in(out), ROWS, strict=True))[1]]
    assert scores_in(out) == expected
    for other, told in (
        ((*NAMED[:2], "--roles", "alice=user,bob=assistant,c=user"), "roles was"),
        (("--columns", "messages=chat,role=who", *NAMED[2:]), "the shape of the rows was"),
    ):
        done = harmless("score", rows, "-o", out, *DEMO, *other, "--resume")
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert harmless("score", rows, "-o", out, *DEMO, *NAMED, "--resume").returncode == 0


def test_a_record_of_an_older_release_names_no_roles(tmp_path: Path, harmless: Harmless) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in PLAIN))
    assert harmless("score", rows, "-o", out, *DEMO).returncode == 0
    path = Path(f"{out}.run.json")
    record = json.loads(path.read_text())
    del record["how_read"]["roles"], record["fingerprint"]["roles"]
    for name in ("role", "content"):
        del record["how_read"]["shape"][name]
    path.write_text(json.dumps(record))
    done = harmless("select", rows, "--scores", out, "-o", tmp_path / "kept.jsonl", "--top", "1")
    assert done.returncode == 0, done.stderr


def test_python_and_yaml(rows: Path, tmp_path: Path, expected: Any) -> None:
    scorer = Gpt2HarmlessScorer(SETTINGS)
    assert scorer.score_batch(ROWS) == expected
    assert [row["score"] for row in scorer.evaluate(rows)] == expected
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(SETTINGS))
    assert load_config(path, {}).roles == {"alice": "user", "bob": "assistant"}
    histories = [
        {"prompt": asked["said"], "response": answer, "history": before}
        for *before, asked, answer in (row["chat"] for row in ROWS)
    ]
    named = {**SETTINGS, "columns": {"role": "who", "content": "said"}}
    assert Gpt2HarmlessScorer(named).score_batch(histories) == expected


def test_the_roles_of_pairs(rows: Path, harmless: Harmless) -> None:
    pairs = [{"chosen": row["chat"], "rejected": row["chat"][:1] + row["chat"][-1:]}
             for row in ROWS]  # fmt: skip
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = harmless("eval", rows, *DEMO, "--columns", "role=who,content=said", *NAMED[2:])
    assert done.returncode == 0, done.stderr
    assert "of 2 pairs" in done.stdout


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"roles": {"alice": "human"}}, "roles.alice is 'human'"),
        ({"roles": {"Alice": "user", "alice ": "assistant"}}, "differ only in case"),
        ({"columns": {"role": "x", "content": "x"}}, "the field x of a turn is named for role"),
    ],
)
def test_roles_that_cannot_be_meant(settings: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Gpt2HarmlessScorer({"model": "demo", **settings}).score_batch(PLAIN)
