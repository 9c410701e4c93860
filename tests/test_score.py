"""`harmless score` end to end, through real processes, against PyTorch."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import make_model, make_tokenizer, save_checkpoint
from conftest import Run
from harmless_export import export_checkpoint
from harmless_export.verify import pytorch_scores
from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.engine import load_engine
from harmless_runtime.output.paths import rejects_path
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.scorer import Gpt2HarmlessScorer

ROWS = [json.loads(line) for line in bundled.ROWS.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def truth(checkpoint: Path) -> list[float]:
    """PyTorch's fp32 scores of the demo rows, with the Hugging Face tokenizer."""
    pairs = [question_and_answer(r["instruction"], r.get("input", ""), r["output"]) for r in ROWS]
    scores: list[float] = pytorch_scores(checkpoint, pairs, 1024).tolist()
    return scores


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_scores_are_pytorchs_in_order(
    artifact: Artifact, truth: list[float], tmp_path: Path, harmless: Run
) -> None:
    out = tmp_path / "scores.jsonl"
    done = harmless("score", bundled.ROWS, "-o", out, "--model", artifact.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = read(out)
    assert [line["id"] for line in lines] == [row["id"] for row in ROWS]
    assert [list(line) for line in lines] == [["id", "score"]] * len(ROWS)
    np.testing.assert_allclose([line["score"] for line in lines], truth, atol=2e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.jsonl"]
    assert f"{len(ROWS)} rows" in done.stderr
    assert "truncated to 1024 tokens" in done.stderr
    assert "cpu, fp32" in done.stderr


def test_many_small_windows_and_batches(
    artifact: Artifact, truth: list[float], tmp_path: Path
) -> None:
    config = {"model": str(artifact.folder), "batch_size": 1, "provider": "cpu"}
    engine = load_engine(make_config(config))
    engine = replace(engine, limits=replace(engine.limits, window_rows=5))
    summary = score_files([str(bundled.ROWS)] * 3, tmp_path / "o.jsonl", engine)
    scores = [line["score"] for line in read(tmp_path / "o.jsonl")]
    np.testing.assert_allclose(scores, truth * 3, atol=2e-4)
    assert summary.tally.rows == 3 * len(ROWS)
    assert summary.tally.input_bytes == 3 * (bundled.ROWS.stat().st_size - len(ROWS))


def test_bad_rows_are_set_aside(artifact: Artifact, tmp_path: Path, harmless: Run) -> None:
    good = b'{"id": "x", "instruction": "a", "output": "b"}'
    bad = [b"{", b'{"instruction": "\xff", "output": "b"}', b'{"instruction": null, "output": ""}']
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"\n".join([good, bad[0], b"", good, bad[1], bad[2], good]))
    out = tmp_path / "scores.jsonl"
    done = harmless("score", rows, "-o", out, "--model", artifact.folder)
    assert done.returncode == 3
    assert "not every row could be scored: 3 in" in done.stderr
    assert str(tmp_path / "scores.rejects.jsonl") in done.stderr
    assert [line["id"] for line in read(out)] == ["x"] * 3
    rejects = read(rejects_path(out))
    assert [entry["line"] for entry in rejects] == [2, 5, 6]
    assert rejects[0]["raw"] == "{"
    assert all(entry["reason"] and entry["source"] == str(rows) for entry in rejects)

    # A rerun over clean rows leaves no stale rejects behind.
    rows.write_bytes(good)
    done = harmless("score", rows, "-o", out, "--model", artifact.folder, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not rejects_path(out).exists()

    rows.write_bytes(b"\n".join([good, *bad]))
    done = harmless("score", rows, "-o", tmp_path / "s", "--model", artifact.folder, "--strict")
    assert done.returncode == 1
    assert f"error: {rows}, line 2: not valid JSON" in done.stderr
    assert not (tmp_path / "s").exists()


def test_standard_input_ids_and_details(artifact: Artifact, tmp_path: Path, harmless: Run) -> None:
    ids = ["1", '"1"', "123456789012345678901234567890", "1.50", "null", '{"a": [1]}']
    rows = [f'{{"id": {i}, "instruction": "a", "output": "{"word " * 90}"}}' for i in ids]
    rows.append('{"instruction": "a", "output": ""}')
    done = harmless(
        "score", "-", "-o", tmp_path / "o", "--model", artifact.folder, "--details",
        "--max-length", "64", input="\n".join(rows),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "o").read_text().splitlines()
    for i, line in zip([*ids, '""'], lines, strict=True):
        assert line.startswith(f'{{"id": {i}, "score": ')
    details = [(json.loads(line)["tokens"], json.loads(line)["truncated"]) for line in lines]
    assert details[0] == (64, True)
    assert details[-1][1] is False
    assert done.stderr.count("truncated to 64 tokens") == 5
    assert "6 rows were truncated in all" in done.stderr


def test_empty_input(tmp_path: Path, harmless: Run) -> None:
    (tmp_path / "rows.jsonl").write_text("\n\n")
    done = harmless("score", tmp_path / "rows.jsonl", "-o", tmp_path / "o", "--model", "demo")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o").read_bytes() == b""


def test_usage_errors(artifact: Artifact, tmp_path: Path, harmless: Run) -> None:
    def fails(code: int, message: str, *args: str | Path) -> None:
        done = harmless("score", *args)
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("error: ") == 1 or code == 2

    model = ("--model", artifact.folder)
    out = ("-o", tmp_path / "o")
    (tmp_path / "there").touch()
    (tmp_path / "c.yaml").write_text("batch_sise: 8\n")
    fails(1, "cannot read nothing.jsonl: No such file", "nothing.jsonl", *out, *model)
    fails(1, "--overwrite", bundled.ROWS, "-o", tmp_path / "there", *model)
    fails(1, "does not exist", bundled.ROWS, "-o", tmp_path / "no" / "where", *model)
    fails(2, "unknown key 'batch_sise'", bundled.ROWS, *out, "--config", tmp_path / "c.yaml")
    fails(2, "batch_size is 0", bundled.ROWS, *out, *model, "--batch-size", "0")
    fails(2, "max_length 2048 exceeds the 1024", bundled.ROWS, *out, *model, "--max-length", "2048")
    fails(2, "precision is 'fp16'", bundled.ROWS, *out, *model, "--precision", "fp16")
    fails(2, "there is no such folder", bundled.ROWS, *out, "--model", "./nowhere")
    fails(1, "neither an artifact", bundled.ROWS, *out, "--model", tmp_path)
    fails(1, "error: --provider cuda: ", bundled.ROWS, *out, *model, "--provider", "cuda")
    fails(2, "Missing option", bundled.ROWS)
    fails(2, "-o - is not possible", bundled.ROWS, "-o", "-", *model)
    fails(1, "is not a regular file", bundled.ROWS, "-o", "/dev/null", "--overwrite", *model)
    fails(1, "in bf16 needs a GPU", bundled.ROWS, *out, "--model", "a/b", "--precision", "bf16")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    fails(1, "is compressed: gzip -dc", tmp_path / "rows.jsonl.gz", *out, *model)
    assert not (tmp_path / "o").exists()


def test_a_checkpoint_is_exported_once(
    checkpoint: Path, truth: list[float], tmp_path: Path, harmless: Run
) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name in ("first", "second"):
        args = ("score", bundled.ROWS, "-o", tmp_path / name, "--model", checkpoint)
        done = harmless(*args, env=environment)
        assert done.returncode == 0, done.stderr
        assert ("exporting" in done.stderr) == (name == "first")
        scores = [line["score"] for line in read(tmp_path / name)]
        np.testing.assert_allclose(scores, truth, atol=2e-4)
    assert len(list((tmp_path / "cache/harmless-scorer").iterdir())) == 1


def test_without_torch_a_checkpoint_is_an_error_that_says_what_to_do(
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


def test_scoring_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from harmless_runtime import Gpt2HarmlessScorer\n"
        "Gpt2HarmlessScorer({'model': 'demo'}).score_item({'instruction': 'a', 'output': 'b'})\n"
        "assert not {'torch', 'transformers', 'onnx', 'harmless_export'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_an_interrupt_leaves_no_output(artifact: Artifact, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("harmless")
    process = subprocess.Popen(
        [command, "score", "-", "-o", tmp_path / "o", "--model", artifact.folder],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b'{"instruction": "a", "output": "b"}\n')
    process.stdin.flush()
    wait_for(tmp_path / "o.partial")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    # Standard input is still open: the blocked read must not keep the process.
    assert process.wait(timeout=20) == 130
    assert b"interrupted" in process.stderr.read()
    assert not (tmp_path / "o").exists()
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0])
def test_an_interrupt_while_rows_are_scored(tmp_path: Path, seconds: float) -> None:
    row = json.dumps({"instruction": "word " * 200, "output": "other " * 200})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n" * 20_000)
    command = Path(sys.executable).with_name("harmless")
    process = subprocess.Popen(
        [command, "score", tmp_path / "rows.jsonl", "-o", tmp_path / "o", "--model", "demo"],
        stderr=subprocess.PIPE,
    )
    wait_for(tmp_path / "o.partial")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert b"interrupted" in errors
    assert not (tmp_path / "o").exists()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_overflowing_scores_are_rejected_not_written(tmp_path: Path) -> None:
    model = make_model()
    token, token_id = "Q", make_tokenizer().convert_tokens_to_ids("Q")
    with torch.no_grad():
        # Their sum passes 65504 for one token only, and fp16 ends there.
        model.transformer.wte.weight[token_id, 0] = 60_000
        model.transformer.wpe.weight[:, 0] = 10_000
    folder = save_checkpoint(tmp_path / "checkpoint", model)
    artifact = export_checkpoint(str(folder), tmp_path / "a", precision="fp16", verify=False)
    rows = tmp_path / "rows.jsonl"
    fine = b'{"id": 1, "instruction": "a", "output": "b"}'
    overflowing = b'{"id": 2, "instruction": "a", "output": "%b"}' % token.encode()
    rows.write_bytes(b"\n".join([fine, overflowing, b"oops", fine]))
    engine = load_engine(make_config({"model": str(artifact.folder), "provider": "cpu"}))
    summary = score_files([str(rows)], tmp_path / "o.jsonl", engine)
    assert [line["id"] for line in read(tmp_path / "o.jsonl")] == [1, 1]
    rejects = read(rejects_path(tmp_path / "o.jsonl"))
    assert [entry["line"] for entry in rejects] == [2, 3]
    assert "the score in fp16 is nan: export the checkpoint in fp32" in rejects[0]["reason"]
    assert (summary.tally.rows, summary.tally.rejected) == (2, 2)
    rows.write_bytes(b"\n".join([fine, overflowing]))
    with pytest.raises(InputError, match="line 2: the score in fp16"):
        score_files([str(rows)], tmp_path / "s.jsonl", engine, strict=True)
    scorer = Gpt2HarmlessScorer({"model": str(artifact.folder), "provider": "cpu"})
    with pytest.raises(InputError, match="item 1: the score in fp16"):
        scorer.score_batch([json.loads(fine), json.loads(overflowing)])


def test_a_checkpoint_is_scored_in_fp32_where_fp16_overflows(tmp_path: Path, harmless: Run) -> None:
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
    assert "1 rows have no finite score in fp16: scoring them in fp32" in done.stderr
    pairs = [question_and_answer("a", "", text) for text in texts]
    scores = [line["score"] for line in read(tmp_path / "o.jsonl")]
    truth = pytorch_scores(folder, pairs, 1024)
    np.testing.assert_allclose(scores[0], truth[0], rtol=0.05, atol=0.05)
    np.testing.assert_allclose(scores[1], truth[1], atol=2e-4)


def test_existing_output_and_strict(artifact: Artifact, tmp_path: Path) -> None:
    engine = load_engine(make_config({"model": str(artifact.folder), "provider": "cpu"}))
    (tmp_path / "o.jsonl").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        score_files([str(bundled.ROWS)], tmp_path / "o.jsonl", engine)
    (tmp_path / "rows").write_text("oops")
    with pytest.raises(InputError, match="line 1"):
        score_files(
            [str(tmp_path / "rows")], tmp_path / "o.jsonl", engine, strict=True, overwrite=True
        )
    assert (tmp_path / "o.jsonl").read_text() == "precious"
