"""Runs in this process: small windows, rejects, overflows, and what exists already."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import make_model, make_tokenizer, save_checkpoint
from harmless_export import export_checkpoint
from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.paths import rejects_path
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.scorer import Gpt2HarmlessScorer
from harmless_runtime.tally import Tally
from reading import names_in, read_rows
from runs import cpu_engine, make_run, with_limits

ROWS = read_rows(bundled.ROWS)


def test_many_small_windows_and_batches(
    artifact: Artifact, demo_truth: list[float], tmp_path: Path
) -> None:
    config = {"model": str(artifact.folder), "batch_size": 1, "provider": "cpu"}
    engine = load_engine(make_config(config))
    engine = with_limits(engine, window_rows=5)
    summary = score_files(make_run([bundled.ROWS] * 3, tmp_path / "o.jsonl"), engine)
    scores = [line["score"] for line in read_rows(tmp_path / "o.jsonl")]
    np.testing.assert_allclose(scores, demo_truth * 3, atol=2e-4)
    assert summary.tally.rows == 3 * len(ROWS)
    assert summary.tally.input_bytes == 3 * bundled.ROWS.stat().st_size


def test_an_input_that_grows_while_the_model_is_loaded_can_be_resumed(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    row = '{"instruction": "a", "output": "b"}\n'
    rows.write_text(row * 10)
    run = make_run(rows, out, commit_seconds=0)  # made before the model is loaded
    rows.write_text(row * 20)
    engine = cpu_engine(window_rows=4)

    def stop(tally: Tally) -> None:
        if tally.rows >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_files(run, engine, stop)
    score_files(make_run(rows, out, existing="resume"), engine)
    assert len(out.read_bytes().splitlines()) == 20


def test_an_input_that_vanishes_while_the_model_is_loaded_costs_nothing(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    out.write_text("an older run's")
    run = make_run(rows, out, existing="overwrite")
    rows.unlink()
    with pytest.raises(InputError, match="cannot read"):
        score_files(run, cpu_engine())
    assert names_in(tmp_path) == ["o"]


def test_overflowing_scores_are_rejected_not_written(tmp_path: Path) -> None:
    model = make_model()
    token, token_id = "Q", make_tokenizer().convert_tokens_to_ids("Q")
    with torch.no_grad():
        # Their sum exceeds 65504, where fp16 ends, for this token only.
        model.transformer.wte.weight[token_id, 0] = 60_000
        model.transformer.wpe.weight[:, 0] = 10_000
    folder = save_checkpoint(tmp_path / "checkpoint", model)
    artifact = export_checkpoint(str(folder), tmp_path / "a", precision="fp16", verify=False)
    rows = tmp_path / "rows.jsonl"
    fine = b'{"id": 1, "instruction": "a", "output": "b"}'
    overflowing = b'{"id": 2, "instruction": "a", "output": "%b"}' % token.encode()
    rows.write_bytes(b"\n".join([fine, overflowing, b"oops", fine]))
    engine = cpu_engine(artifact.folder)
    summary = score_files(make_run(rows, tmp_path / "o.jsonl"), engine)
    assert [line["id"] for line in read_rows(tmp_path / "o.jsonl")] == [1, 1]
    rejects = read_rows(rejects_path(tmp_path / "o.jsonl"))
    assert [entry["line"] for entry in rejects] == [2, 3]
    assert "the score in fp16 is nan; an export in fp32" in rejects[0]["reason"]
    assert (summary.tally.rows, summary.tally.rejected) == (2, 2)
    rows.write_bytes(b"\n".join([fine, overflowing]))
    with pytest.raises(InputError, match="line 2: the score in fp16"):
        score_files(make_run(rows, tmp_path / "s.jsonl", strict=True), engine)
    scorer = Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu"})
    with pytest.raises(InputError, match="item 1: the score in fp16"):
        scorer.score_batch([json.loads(fine), json.loads(overflowing)])


def test_existing_output_and_strict(artifact: Artifact, tmp_path: Path) -> None:
    engine = cpu_engine(artifact.folder)
    (tmp_path / "o.jsonl").write_text("precious")
    with pytest.raises(OutputError, match="already exists"):
        score_files(make_run(bundled.ROWS, tmp_path / "o.jsonl"), engine)
    (tmp_path / "rows").write_text("oops")
    with pytest.raises(InputError, match="line 1"):
        score_files(
            make_run(
                tmp_path / "rows",
                tmp_path / "o.jsonl",
                Reading("alpaca"),
                existing="overwrite",
                strict=True,
            ),
            engine,
        )
    assert (tmp_path / "o.jsonl").read_text() == "precious"
