"""`harmless score` with a checkpoint: exported once, in fp32 for rows that overflow, or refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import make_model, make_tokenizer, save_checkpoint
from harmless_export.reference import pytorch_scores
from harmless_runtime import bundled
from harmless_runtime.rows.prompt import question_and_answer
from processes import Harmless
from reading import read_rows


def test_a_checkpoint_is_exported_once(
    checkpoint: Path, demo_truth: list[float], tmp_path: Path, harmless: Harmless
) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name in ("first", "second"):
        args = ("score", bundled.ROWS, "-o", tmp_path / name, "--model", checkpoint)
        done = harmless(*args, env=environment)
        assert done.returncode == 0, done.stderr
        assert ("exporting" in done.stderr) == (name == "first")
        scores = [line["score"] for line in read_rows(tmp_path / name)]
        np.testing.assert_allclose(scores, demo_truth, atol=2e-4)
    assert len(list((tmp_path / "cache/harmless-scorer").iterdir())) == 1


@pytest.mark.slow
def test_the_cache_keeps_one_export_of_a_folder(
    checkpoint: Path, tmp_path: Path, harmless: Harmless
) -> None:
    folder, cache = tmp_path / "checkpoint", tmp_path / "cache"
    shutil.copytree(checkpoint, folder)

    def exports(out: str) -> bool:
        done = harmless(
            "score", bundled.ROWS, "-o", tmp_path / out, "--model", folder,
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return "exporting" in done.stderr

    assert exports("first")
    (folder / "config.json").touch()
    assert not exports("second"), "a time is no content"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    assert exports("third")
    assert len(list((cache / "harmless-scorer").iterdir())) == 1


def test_a_checkpoint_without_torch_is_an_error_that_says_what_to_do(
    checkpoint: Path, tmp_path: Path
) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from harmless_runtime.cli.app import main; main()"
    )
    arguments = ["score", str(bundled.ROWS), "-o", str(tmp_path / "o"), "--model", str(checkpoint)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 2
    assert "pip install '.[export]'" in done.stderr
    assert f"harmless export {checkpoint}" in done.stderr


def test_rows_that_overflow_in_fp16_are_scored_in_fp32(tmp_path: Path, harmless: Harmless) -> None:
    token = "~"  # in none of the texts that an export is verified with
    model = make_model()
    with torch.no_grad():
        token_id = make_tokenizer().convert_tokens_to_ids(token)
        model.transformer.wte.weight[token_id, 0] = 65_000
        model.transformer.wpe.weight[:, 0] = 600
    folder = save_checkpoint(tmp_path / "checkpoint", model)
    rows = tmp_path / "rows.jsonl"
    texts = ["fine", f"not {token} fine"]
    lines = [json.dumps({"id": i, "instruction": "a", "output": t}) for i, t in enumerate(texts)]
    rows.write_text("\n".join(lines))
    options = ("--model", folder, "--precision", "fp16", "--provider", "cpu")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *options, env=environment)
    assert done.returncode == 0, done.stderr
    assert "scoring 1 rows in fp32, because they have no finite score in fp16" in done.stderr
    pairs = [question_and_answer("a", "", text) for text in texts]
    scores = [line["score"] for line in read_rows(tmp_path / "o.jsonl")]
    truth = pytorch_scores(folder, pairs, 1024)
    np.testing.assert_allclose(scores[0], truth[0], rtol=0.05, atol=0.05)
    np.testing.assert_allclose(scores[1], truth[1], atol=2e-4)
