"""Tests that need an NVIDIA GPU. They are skipped, and reported so, if there is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import make_model, save_checkpoint
from harmless_export import export_checkpoint, verify_artifact
from harmless_export.parity import LIMITS
from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer, bundled
from harmless_runtime.choices import Precision
from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.gpu_memory import free_gpu_memory, gpu_memory_of
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.providers import choose_provider
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import Encoded
from harmless_runtime.rows.prompt import question_and_answer
from processes import Harmless
from runs import with_limits

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with GPT-2's head size, because the attention kernels are made for it."""
    folder = tmp_path_factory.mktemp("wide")
    return save_checkpoint(folder, make_model(n_embd=256, n_head=4))


def export(checkpoint: Path, out: Path, precision: Any) -> Artifact:
    return export_checkpoint(str(checkpoint), out, precision=precision, verify=False)


def random_rows(count: int) -> list[Encoded]:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 700, count)
    return [Encoded(rng.integers(1, 600, n).astype(np.int32), False) for n in lengths]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_parity(
    wide: Path, tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = verify_artifact(export(wide, tmp_path / "a", precision), provider="cuda")
    caplog.clear()
    assert artifact.manifest.parity
    # The second engine is compared with the reference that the first one left: no warning comes.
    build_engine(artifact, Target("cuda"))
    assert not caplog.records
    for report in artifact.manifest.parity:
        assert "cuda" in report.runner
        assert report.relative <= LIMITS[precision]


def test_the_command(wide: Path, tmp_path: Path, harmless: Harmless) -> None:
    artifact = export(wide, tmp_path / "a", "fp16")
    options = ("--model", artifact.folder, "--provider", "cuda")
    done = harmless("score", bundled.ROWS, "-o", tmp_path / "o.jsonl", *options)
    assert done.returncode == 0, done.stderr
    assert "cuda, fp16" in done.stderr
    rows = [json.loads(line) for line in bundled.ROWS.read_text(encoding="utf-8").splitlines()]
    pairs = [question_and_answer(r["instruction"], r.get("input", ""), r["output"]) for r in rows]
    truth = pytorch_scores(wide, pairs, 1024)
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    scores = [json.loads(line)["score"] for line in lines]
    assert np.abs(scores - truth).max() / truth.std() < LIMITS["fp16"]


def run_both_ways(engine: Engine, other: Engine) -> None:
    rows = random_rows(60)
    expected = engine.score(rows)
    assert np.abs(other.score(rows) - expected).max() / expected.std() < LIMITS["fp16"]


def test_limited_gpu_memory(wide: Path, tmp_path: Path) -> None:
    artifact = export(wide, tmp_path / "a", "fp16")
    large = make_config({"batch_size": 64})
    engine = build_engine(artifact, Target("cuda"), large)
    cramped = build_engine(artifact, Target("cuda", gpu_memory=0.1), large)
    run_both_ways(engine, cramped)
    assert cramped.runner.capacity < engine.runner.capacity


def test_few_rows(wide: Path, tmp_path: Path) -> None:
    artifact = export(wide, tmp_path / "a", "fp16")
    scorer = Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cuda"})
    many = replace(scorer.engine, few_rows=None)
    graphs = scorer.engine.few_rows
    assert graphs is not None
    for count in (1, 4, 1, 2, 4):
        texts = [("ask", "word " * (9 * n + count)) for n in range(count)]
        rows = many.tokenizer.encode(texts)
        expected = many.score(rows)
        assert np.abs(scorer.engine.score(rows) - expected).max() < 0.02
        assert graphs.works


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_memory_is_what_was_told(precision: Precision, wide: Path, tmp_path: Path) -> None:
    """Nothing else may use the GPU meanwhile."""
    artifact = export(wide, tmp_path / "a", precision)
    choose_provider("cuda", precision)
    before = free_gpu_memory(0)
    engine = build_engine(artifact, Target("cuda"))
    rng = np.random.default_rng(1)
    for length in rng.permutation(np.arange(8, 1025, 8)):
        engine.runner.submit(np.zeros((8192 // length, length), np.int64)).result()
    memory = gpu_memory_of(artifact)
    told = memory.weights + memory.activations(8192)
    assert abs((before - free_gpu_memory(0)) / told - 1) < 0.05


def test_cuda_graphs(wide: Path, tmp_path: Path) -> None:
    artifact = export(wide, tmp_path / "a", "fp16")
    engine = build_engine(artifact, Target("cuda"))
    replayed = build_engine(artifact, Target("cuda", graph_tokens=4096))
    # Small batches repeat their shapes, so that graphs are replayed.
    replayed = with_limits(replayed, batch_tokens=2048)
    for _ in range(4):
        run_both_ways(engine, replayed)
