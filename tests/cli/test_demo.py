"""`harmless demo`, and the files that come with the package."""

import json
from pathlib import Path

import pytest

from harmless_runtime import bundled
from harmless_runtime.config import load_config
from harmless_runtime.demo import run_demo
from harmless_runtime.model.artifact import open_artifact
from processes import Harmless

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_command_shows_pairs_and_what_comes_next(harmless: Harmless, tmp_path: Path) -> None:
    done = harmless("demo", cwd=tmp_path, env={"PATH": "", "COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "harmless export Ray2333/gpt2-large-harmless-reward_model -o artifact" in done.stdout
    demo = run_demo()
    told = " ".join(done.stdout.split())
    assert "far too small to judge safety" in told
    for better, worse in demo.pairs[:4]:
        assert f"{better.request} {better.score:.2f} {better.text}" in told
        assert f" {worse.score:.2f} {worse.text}" in told
    right = sum(better.score > worse.score for better, worse in demo.pairs)
    assert f"in {right} of 40 pairs" in told
    assert done.stdout.count("█") > 20
    assert list(tmp_path.iterdir()) == []


def test_the_demo_counts_as_eval_does(harmless: Harmless) -> None:
    done = harmless("eval", bundled.PAIRS, "--model", "demo", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    accuracy = run_demo().evaluation.accuracy
    assert (figures["pairs"], figures["wins"]) == (accuracy.pairs, accuracy.wins)


def test_the_bundled_artifact_is_small_verified_and_has_its_card() -> None:
    artifact = open_artifact(bundled.MODEL)
    assert sum(file.stat().st_size for file in bundled.MODEL.iterdir()) <= 5e6
    assert artifact.manifest.parity
    assert all(report.relative <= 1e-4 for report in artifact.manifest.parity)
    training = json.loads((bundled.MODEL / "training.json").read_text())["figures"]
    assert f"{training['held_out_accuracy']:.1%}" in (bundled.MODEL / "README.md").read_text()
    assert training["held_out"] >= 400


def test_the_bundled_rows_are_of_every_kind() -> None:
    rows = [json.loads(line) for line in bundled.ROWS.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) >= 40
    for kind in ("helpful", "refused", "complied"):
        assert sum(str(row["id"]).startswith(kind) for row in rows) >= 5
    assert any("input" in row for row in rows)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = load_config(path, {})
    assert config.provider == ("cuda" if path.stem == "gpu" else "cpu")


def test_shipped_configurations_are_all_there() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"cpu", "demo", "gpu"}
